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
	"slices"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// Authority signs certificates.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	// certPEM is the certificate that signs, rest what was given after it: intermediates, a root.
	certPEM, rest, keyPEM []byte
}

// ParseAuthority reads an authority from PEM. Of several certificates the first
// one signs. Any kind of key that crypto/x509 knows will do.
func ParseAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	certs, err := cert.ParseCertsPEM(certPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	switch {
	case !matches(certs[0], key):
		return nil, errors.New("the private key doesn't belong to the certificate")
	case !certs[0].IsCA:
		return nil, errors.New("the certificate isn't one of an authority")
	case certs[0].KeyUsage != 0 && certs[0].KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("the certificate's key usage doesn't allow to sign certificates")
	}
	rest := []*x509.Certificate{}
	for _, c := range certs[1:] {
		if !c.Equal(certs[0]) && !slices.ContainsFunc(rest, c.Equal) {
			rest = append(rest, c)
		}
	}
	return &Authority{cert: certs[0], key: key, certPEM: encode(certs[0]), rest: encode(rest...), keyPEM: keyPEM}, nil
}

func parseKey(keyPEM []byte) (crypto.Signer, error) {
	parsed, err := keyutil.ParsePrivateKeyPEM(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the private key: %w", err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a private key of type %T can't sign", parsed)
	}
	return key, nil
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

// Usable tells why the authority can't sign now, nil if it can.
func (a *Authority) Usable(now time.Time) error {
	switch {
	case now.After(a.cert.NotAfter):
		return fmt.Errorf("it has expired at %s", a.cert.NotAfter.UTC().Format(time.RFC3339))
	case now.Add(backdate).Before(a.cert.NotBefore):
		return fmt.Errorf("it isn't valid before %s", a.cert.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// bundle is all certificates of the authority, the one that signs first.
func (a *Authority) bundle() []byte { return join(a.certPEM, a.rest) }

func (a *Authority) selfSigned() bool { return selfSigned(a.cert) }

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(c) == nil
}

// sameKey tells whether both sign with one key, so that each verifies what the other has signed.
func (a *Authority) sameKey(b *Authority) bool {
	return a != nil && b != nil && matches(a.cert, b.key) && bytes.Equal(a.cert.RawSubject, b.cert.RawSubject)
}

// among tells whether one of the certificates is of the authority's key.
func (a *Authority) among(certs []*x509.Certificate) bool {
	return slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return matches(c, a.key) })
}

// chain is what a server sends after a certificate of the authority, for clients that know only a root.
func (a *Authority) chain() []byte {
	if a.selfSigned() {
		return nil
	}
	out := []*x509.Certificate{a.cert}
	for _, c := range certificates(a.rest) {
		if !selfSigned(c) {
			out = append(out, c)
		}
	}
	return encode(out...)
}

// CrossSign returns a certificate (PEM) of next's key and name, signed by a. Who trusts only a can verify with it what
// next has signed. It fails when a may not sign authorities.
func (a *Authority) CrossSign(next *Authority) ([]byte, error) {
	if a.cert.MaxPathLen == 0 && a.cert.MaxPathLenZero {
		return nil, errors.New("its path length of 0 forbids to sign another authority")
	}
	template := &x509.Certificate{
		RawSubject:            next.cert.RawSubject,
		SubjectKeyId:          next.cert.SubjectKeyId,
		NotBefore:             later(a.cert.NotBefore, next.cert.NotBefore),
		NotAfter:              earlier(a.cert.NotAfter, next.cert.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, next.key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("signing authority %s: %w", next.cert.Subject.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: der}), nil
}

// verifies tells whether who trusts a's certificates can verify next with what next's servers send.
func (a *Authority) verifies(next *Authority, now time.Time) bool {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(a.bundle())
	between.AppendCertsFromPEM(next.chain())
	_, err := next.cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err == nil
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

// certificates are those in PEM, none if it can't be read.
func certificates(data []byte) []*x509.Certificate {
	certs, err := cert.ParseCertsPEM(data)
	if err != nil {
		return nil
	}
	return certs
}

func encode(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: c.Raw})...)
	}
	return out
}

// join puts PEM files together.
func join(files ...[]byte) []byte { return bytes.Join(files, nil) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
