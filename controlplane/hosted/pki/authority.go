// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// Authority signs certificates.
type Authority struct {
	cert    *x509.Certificate
	key     crypto.Signer
	certPEM []byte
	keyPEM  []byte
}

// ParseAuthority reads an authority from PEM. Of several certificates the first
// one signs. Any kind of key that crypto/x509 knows will do.
func ParseAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	certs, err := cert.ParseCertsPEM(certPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate: %w", err)
	}
	parsed, err := keyutil.ParsePrivateKeyPEM(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the private key: %w", err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errors.New("the private key can't sign")
	}
	if !matches(certs[0], key) {
		return nil, errors.New("the private key doesn't belong to the certificate")
	}
	if !certs[0].IsCA {
		return nil, errors.New("the certificate isn't one of an authority")
	}
	return &Authority{cert: certs[0], key: key, certPEM: certPEM, keyPEM: keyPEM}, nil
}

// newAuthority makes a self-signed authority, with a new key if none is given.
func newAuthority(commonName string, key crypto.Signer, keyPEM []byte, now time.Time) (*Authority, error) {
	if key == nil {
		var err error
		if key, keyPEM, err = newKey(); err != nil {
			return nil, err
		}
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName},
		DNSNames:              []string{commonName},
		NotBefore:             now.Add(-backdate).UTC(),
		NotAfter:              now.Add(CAValidity).UTC(),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing authority %s: %w", commonName, err)
	}
	return ParseAuthority(pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: der}), keyPEM)
}

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
// LeafValidity. Such a pair takes less than a tenth of a millisecond, which is why
// nothing here works in parallel.
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
		NotAfter:              now.Add(LeafValidity).UTC(),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{leaf.Usage},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("signing certificate %s: %w", leaf.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: der}), keyPEM, nil
}

// Good tells whether an existing pair still is what Sign would make, and won't
// expire soon. The time is when it will be due for renewal.
func (a *Authority) Good(leaf Leaf, certPEM, keyPEM []byte, now time.Time) (due time.Time, good bool) {
	certs, err := cert.ParseCertsPEM(certPEM)
	if err != nil {
		return time.Time{}, false
	}
	key, err := keyutil.ParsePrivateKeyPEM(keyPEM)
	if err != nil {
		return time.Time{}, false
	}
	have := certs[0]
	due = have.NotAfter.Add(-LeafRenewBefore)
	signer, ok := key.(crypto.Signer)
	good = ok && matches(have, signer) &&
		now.Before(due) && !now.Before(have.NotBefore) &&
		have.CheckSignatureFrom(a.cert) == nil &&
		have.Subject.CommonName == leaf.CommonName &&
		sameStrings(have.Subject.Organization, leaf.Organization) &&
		sameStrings(have.DNSNames, leaf.DNSNames) &&
		sameStrings(texts(have.IPAddresses), texts(leaf.IPs)) &&
		slices.Contains(have.ExtKeyUsage, leaf.Usage)
	return due, good
}

func newKey() (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding a key: %w", err)
	}
	return key, keyPEM, nil
}

func publicKeyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encoding a public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyutil.PublicKeyBlockType, Bytes: der}), nil
}

func matches(c *x509.Certificate, key crypto.Signer) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(c.PublicKey)
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
