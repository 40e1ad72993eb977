// SPDX-License-Identifier: Apache-2.0

// Package clientcert issues the certificates with which tenants authenticate to a
// store: one for each, signed by the authority of the DataStore, with the
// tenant's user as common name.
package clientcert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

const (
	// validity of a tenant's client certificate, as of every other leaf.
	validity = 365 * 24 * time.Hour
	// backdate tolerates clocks that are behind ours.
	backdate = 5 * time.Minute
)

// Issuer signs client certificates with the authority of one DataStore.
type Issuer struct {
	ca    *x509.Certificate
	caPEM []byte
	key   crypto.Signer
}

// New takes the authority out of a configuration that has its key. Errors have
// ReasonInvalid and say which part is wrong.
func New(config storage.Config) (*Issuer, error) {
	invalid := func(what string, err error) error {
		return &storage.Error{Reason: storage.ReasonInvalid, Message: "DataStore " + config.Name + ": " + what, Err: err}
	}
	cas, err := cert.ParseCertsPEM(config.CA)
	if err != nil {
		return nil, invalid("certificate authority", err)
	}
	parsed, err := keyutil.ParsePrivateKeyPEM(config.CAKey)
	if err != nil {
		return nil, invalid("private key of the certificate authority", err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, invalid("private key of the certificate authority is of a kind that cannot sign", nil)
	}
	// A bundle may hold several CAs while one replaces the other; the one the
	// key belongs to is the one that signs.
	for _, ca := range cas {
		if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); ok && pub.Equal(ca.PublicKey) {
			return &Issuer{ca: ca, caPEM: config.CA, key: key}, nil
		}
	}
	return nil, invalid("private key and certificate of the certificate authority do not belong together", nil)
}

// Administrator is the common name of the administrator's certificate, empty
// when the configuration has none.
func Administrator(config storage.Config) (string, error) {
	if len(config.Certificate) == 0 {
		return "", nil
	}
	chain, err := cert.ParseCertsPEM(config.Certificate)
	if err != nil {
		return "", &storage.Error{Reason: storage.ReasonInvalid, Message: "DataStore " + config.Name + ": client certificate", Err: err}
	}
	return chain[0].Subject.CommonName, nil
}

// TLS is the administrator's side of a connection: the authority that verifies
// servers, and the client certificate if there is one. It returns nil when the
// configuration has no authority.
func TLS(config storage.Config) (*tls.Config, error) {
	if len(config.CA) == 0 {
		return nil, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(config.CA) {
		return nil, storage.Errorf(storage.ReasonInvalid, "DataStore %s: the certificate authority holds no PEM certificate", config.Name)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	if len(config.Certificate) == 0 {
		return out, nil
	}
	pair, err := tls.X509KeyPair(config.Certificate, config.Key)
	if err != nil {
		return nil, &storage.Error{Reason: storage.ReasonInvalid, Message: "DataStore " + config.Name + ": client certificate and key", Err: err}
	}
	out.Certificates = []tls.Certificate{pair}
	return out, nil
}

// Renew returns current with CA, certificate and key replaced unless they are
// still good; nothing else in it changes.
func (i *Issuer) Renew(tenant storage.Tenant, current storage.Credentials, now time.Time) (storage.Credentials, error) {
	if i.usable(tenant, current, now) {
		return current, nil
	}
	return i.issue(tenant, current, now)
}

// usable reports whether the certificate is for this user, from this CA, fits
// its key and has more than a third of its life left.
func (i *Issuer) usable(tenant storage.Tenant, current storage.Credentials, now time.Time) bool {
	if !bytes.Equal(current.CA, i.caPEM) {
		return false
	}
	pair, err := tls.X509KeyPair(current.Certificate, current.Key)
	if err != nil {
		return false
	}
	leaf := pair.Leaf
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return leaf.Subject.CommonName == tenant.User &&
		leaf.CheckSignatureFrom(i.ca) == nil &&
		now.After(leaf.NotBefore) && now.Before(leaf.NotAfter.Add(-life/3))
}

// issue makes a certificate that can be used as a client of the store and for
// nothing else.
func (i *Issuer) issue(tenant storage.Tenant, current storage.Credentials, now time.Time) (storage.Credentials, error) {
	failed := func(what string, err error) (storage.Credentials, error) {
		return storage.Credentials{}, &storage.Error{Reason: storage.ReasonInternal, Message: what + " for user " + tenant.User, Err: err}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return failed("generating a key", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	if err != nil {
		return failed("choosing a serial number", err)
	}
	notAfter := now.Add(validity)
	if notAfter.After(i.ca.NotAfter) {
		notAfter = i.ca.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: tenant.User},
		NotBefore:    now.Add(-backdate),
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, i.ca, key.Public(), i.key)
	if err != nil {
		return failed("signing a certificate", err)
	}
	keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return failed("encoding the key", err)
	}
	current.CA, current.Key = i.caPEM, keyPEM
	current.Certificate = pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: der})
	return current, nil
}
