// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"k8s.io/client-go/util/cert"
)

// Leaf is a certificate for one end of a connection.
type Leaf struct {
	// CommonName is the user name of a client.
	CommonName string
	// Organization are the groups of a client.
	Organization []string
	// DNSNames and IPs are what a server is called.
	DNSNames []string
	IPs      []net.IP
	// Usage is server or client authentication.
	Usage x509.ExtKeyUsage
}

// Sign makes a certificate with a new ECDSA P-256 key, both PEM, valid for
// LeafValidity, or as long as the authority. Such a pair takes less than a tenth of
// a millisecond, which is why nothing here works in parallel. It fails when the
// authority is limited to other names or uses.
func (a *Authority) Sign(leaf Leaf, now time.Time) (certPEM, keyPEM []byte, err error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: leaf.CommonName, Organization: leaf.Organization},
		DNSNames:              leaf.DNSNames,
		IPAddresses:           leaf.IPs,
		NotBefore:             now.Add(-backdate).UTC(),
		NotAfter:              earlier(now.Add(LeafValidity).UTC(), a.cert.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{leaf.Usage},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("signing certificate %s: %w", leaf.CommonName, err)
	}
	if err := a.allows(der, leaf.Usage, now); err != nil {
		return nil, nil, fmt.Errorf("the authority may not sign certificate %s: %w", leaf.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: der}), keyPEM, nil
}

// allows checks what the authority is limited to. Our own authorities have no limits.
func (a *Authority) allows(der []byte, usage x509.ExtKeyUsage, now time.Time) error {
	c := a.cert
	limited := len(c.ExtKeyUsage)+len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedIPRanges)+len(c.ExcludedIPRanges) > 0
	if !limited {
		return nil
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	_, err = signed.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

// Good tells whether an existing pair still is what Sign would make, and won't
// expire soon. The time is when it will be due for renewal: never, if nothing
// valid for longer can be had from the authority.
func (a *Authority) Good(leaf Leaf, certPEM, keyPEM []byte, now time.Time) (due time.Time, good bool) {
	certs := certificates(certPEM)
	key, err := parseKey(keyPEM)
	if len(certs) == 0 || err != nil {
		return time.Time{}, false
	}
	have := certs[0]
	due = a.renewal(have)
	good = matches(have, key) &&
		(due.IsZero() || now.Before(due)) && !now.Before(have.NotBefore) && now.Before(have.NotAfter) &&
		have.CheckSignatureFrom(a.cert) == nil &&
		have.Subject.CommonName == leaf.CommonName &&
		sameStrings(have.Subject.Organization, leaf.Organization) &&
		sameStrings(have.DNSNames, leaf.DNSNames) &&
		sameStrings(texts(have.IPAddresses), texts(leaf.IPs)) &&
		slices.Contains(have.ExtKeyUsage, leaf.Usage)
	return due, good
}

// renewal is when a certificate is to be replaced: LeafRenewBefore its end, or a quarter of its life when that is less.
func (a *Authority) renewal(have *x509.Certificate) time.Time {
	if !have.NotAfter.Before(a.cert.NotAfter) {
		return time.Time{}
	}
	return have.NotAfter.Add(-min(LeafRenewBefore, have.NotAfter.Sub(have.NotBefore)/4))
}

// Due is when a pair that Sign has just made is to be replaced, zero for never.
func (a *Authority) Due(certPEM []byte) time.Time {
	certs := certificates(certPEM)
	if len(certs) == 0 {
		return time.Time{}
	}
	return a.renewal(certs[0])
}

// Identity stands for who a certificate (PEM) names and who has signed it: 32 hexadecimal digits that a renewal
// doesn't change. Garbage has an identity, too.
func Identity(certPEM []byte) string {
	sum := sha256.New()
	certs := certificates(certPEM)
	if len(certs) == 0 {
		sum.Write(certPEM)
		return hex.EncodeToString(sum.Sum(nil))[:32]
	}
	for _, value := range [][]string{certs[0].DNSNames, texts(certs[0].IPAddresses), {string(certs[0].RawSubject), string(certs[0].AuthorityKeyId)}} {
		fmt.Fprintf(sum, "%q", value)
	}
	for _, c := range certs[1:] {
		sum.Write(c.Raw)
	}
	return hex.EncodeToString(sum.Sum(nil))[:32]
}

// CheckServer tells why a certificate and key (PEM) can't serve these host names, nil if they can.
func CheckServer(certPEM, keyPEM []byte, names []string, now time.Time) error {
	certs, err := cert.ParseCertsPEM(certPEM)
	if err != nil {
		return fmt.Errorf("reading the certificate: %w", err)
	}
	key, err := parseKey(keyPEM)
	switch {
	case err != nil:
		return err
	case !matches(certs[0], key):
		return errors.New("the private key doesn't belong to the certificate")
	case now.After(certs[0].NotAfter):
		return fmt.Errorf("it has expired at %s", certs[0].NotAfter.UTC().Format(time.RFC3339))
	}
	for _, name := range names {
		if err := certs[0].VerifyHostname(name); err != nil {
			return err
		}
	}
	return nil
}

// SignedFor is the common name in a certificate that the signer (both PEM) has signed, empty if it hasn't.
func SignedFor(signerPEM, certPEM []byte) string {
	signer, certs := certificates(signerPEM), certificates(certPEM)
	if len(signer) == 0 || len(certs) == 0 || certs[0].CheckSignatureFrom(signer[0]) != nil {
		return ""
	}
	return certs[0].Subject.CommonName
}

// Fingerprint stands for a file: 16 hexadecimal digits.
func Fingerprint(file []byte) string {
	sum := sha256.Sum256(file)
	return hex.EncodeToString(sum[:])[:16]
}

// Expiry is when the first certificate in PEM ends, zero for garbage.
func Expiry(certPEM []byte) time.Time {
	certs := certificates(certPEM)
	if len(certs) == 0 {
		return time.Time{}
	}
	return certs[0].NotAfter
}

func texts(ips []net.IP) []string {
	out := make([]string, 0, len(ips))
	for _, ip := range ips {
		out = append(out, ip.String())
	}
	return out
}

// sameStrings compares as sets.
func sameStrings(a, b []string) bool {
	return slices.Equal(sorted(a), sorted(b))
}

func sorted(in []string) []string {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

func sameData(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for key, value := range a {
		other, ok := b[key]
		if !ok || !bytes.Equal(value, other) {
			return false
		}
	}
	return true
}
