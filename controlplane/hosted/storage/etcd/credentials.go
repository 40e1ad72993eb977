// SPDX-License-Identifier: Apache-2.0

package etcd

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

// signer issues the tenants' client certificates from the DataStore's CA.
type signer struct {
	ca    *x509.Certificate
	caPEM []byte
	key   crypto.Signer
	// admin is the common name of the administrator's certificate, which etcd
	// takes for its user name.
	admin string
}

func newSigner(config storage.Config) (*signer, error) {
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
	admin, err := cert.ParseCertsPEM(config.Certificate)
	if err != nil {
		return nil, invalid("client certificate", err)
	}
	// A bundle may hold several CAs while one replaces the other; the one the
	// key belongs to is the one that signs.
	for _, ca := range cas {
		if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); ok && pub.Equal(ca.PublicKey) {
			return &signer{ca: ca, caPEM: config.CA, key: key, admin: admin[0].Subject.CommonName}, nil
		}
	}
	return nil, invalid("private key and certificate of the certificate authority do not belong together", nil)
}

// Credentials implements storage.Driver.
func (d *driver) Credentials(tenant storage.Tenant, current storage.Credentials, now time.Time) (storage.Credentials, error) {
	if err := d.admissible(tenant); err != nil {
		return storage.Credentials{}, err
	}
	if d.signer.usable(tenant, current, now) {
		return current, nil
	}
	return d.signer.issue(tenant, now)
}

// usable reports whether the certificate is for this user, from this CA, fits
// its key and has more than a third of its life left.
func (s *signer) usable(tenant storage.Tenant, current storage.Credentials, now time.Time) bool {
	if !bytes.Equal(current.CA, s.caPEM) {
		return false
	}
	pair, err := tls.X509KeyPair(current.Certificate, current.Key)
	if err != nil {
		return false
	}
	leaf := pair.Leaf
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return leaf.Subject.CommonName == tenant.User &&
		leaf.CheckSignatureFrom(s.ca) == nil &&
		now.After(leaf.NotBefore) && now.Before(leaf.NotAfter.Add(-life/3))
}

// issue makes a certificate that can be used as a client of the store and for
// nothing else.
func (s *signer) issue(tenant storage.Tenant, now time.Time) (storage.Credentials, error) {
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
	if notAfter.After(s.ca.NotAfter) {
		notAfter = s.ca.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: tenant.User},
		NotBefore:    now.Add(-backdate),
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, s.ca, key.Public(), s.key)
	if err != nil {
		return failed("signing a certificate", err)
	}
	keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return failed("encoding the key", err)
	}
	return storage.Credentials{
		CA:          s.caPEM,
		Certificate: pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: der}),
		Key:         keyPEM,
	}, nil
}
