// SPDX-License-Identifier: Apache-2.0

package clientcert

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

// Shared returns credentials that all of the stores accept, for a client that has
// room for one certificate: current, unless it is due.
//
// Stores with different authorities each want a certificate of their own one. So
// the tenant's is signed by an authority in between, whose key is thrown away at
// once, and every store's authority signs a certificate for that. The client shows
// all of them, and each store finds a way to the one it trusts.
func Shared(tenant storage.Tenant, current storage.Credentials, now time.Time, stores ...storage.Config) (storage.Credentials, error) {
	if err := tenant.Validate(); err != nil {
		return storage.Credentials{}, err
	}
	var issuers []*Issuer
	var bundle []byte
	for _, config := range stores {
		issuer, err := New(config)
		if err != nil {
			return storage.Credentials{}, err
		}
		if slices.ContainsFunc(issuers, func(other *Issuer) bool { return bytes.Equal(other.caPEM, issuer.caPEM) }) {
			continue
		}
		issuers = append(issuers, issuer)
		bundle = append(bundle, issuer.caPEM...)
		if !bytes.HasSuffix(bundle, []byte("\n")) {
			bundle = append(bundle, '\n')
		}
	}
	if len(issuers) == 1 {
		return issuers[0].Renew(tenant, current, now)
	}
	for i, issuer := range issuers {
		if issuer.ca.MaxPathLenZero && issuer.ca.MaxPathLen == 0 {
			return storage.Credentials{}, storage.Errorf(storage.ReasonInvalid,
				"the authority of DataStore %s may sign no other authority (its path length is 0), so no certificate can be valid there and in DataStore %s too",
				stores[i].Name, stores[0].Name)
		}
	}
	if sharedUsable(tenant, current, now, bundle, issuers) {
		return current, nil
	}
	return share(tenant, current, now, bundle, issuers)
}

// sharedUsable reports whether the chain leads to each of the authorities, and has
// more than a third of its life left.
func sharedUsable(tenant storage.Tenant, current storage.Credentials, now time.Time, bundle []byte, issuers []*Issuer) bool {
	pair, err := tls.X509KeyPair(current.Certificate, current.Key)
	if err != nil || !bytes.Equal(current.CA, bundle) || pair.Leaf.Subject.CommonName != tenant.User {
		return false
	}
	life := pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore)
	if !now.Before(pair.Leaf.NotAfter.Add(-life / 3)) {
		return false
	}
	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	for _, issuer := range issuers {
		roots := x509.NewCertPool()
		roots.AddCert(issuer.ca)
		_, err := pair.Leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		if err != nil {
			return false
		}
	}
	return true
}

func share(tenant storage.Tenant, current storage.Credentials, now time.Time, bundle []byte, issuers []*Issuer) (storage.Credentials, error) {
	failed := func(what string, err error) (storage.Credentials, error) {
		return storage.Credentials{}, &storage.Error{Reason: storage.ReasonInternal, Message: what + " for user " + tenant.User, Err: err}
	}
	betweenKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return failed("generating a key", err)
	}
	notAfter := now.Add(validity)
	for _, issuer := range issuers {
		if notAfter.After(issuer.ca.NotAfter) {
			notAfter = issuer.ca.NotAfter
		}
	}
	template := func(name string) (*x509.Certificate, error) {
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
		if err != nil {
			return nil, err
		}
		return &x509.Certificate{
			SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: name},
			NotBefore: now.Add(-backdate), NotAfter: notAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}, nil
	}
	var between *x509.Certificate
	var chain []byte
	for _, issuer := range issuers {
		t, err := template("clients of " + tenant.Schema)
		if err != nil {
			return failed("choosing a serial number", err)
		}
		t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero, t.KeyUsage = true, true, true, x509.KeyUsageCertSign
		der, err := x509.CreateCertificate(rand.Reader, t, issuer.ca, betweenKey.Public(), issuer.key)
		if err != nil {
			return failed("signing the authority in between", err)
		}
		if between, err = x509.ParseCertificate(der); err != nil {
			return failed("reading the authority in between", err)
		}
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: der})...)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return failed("generating a key", err)
	}
	leaf, err := template(tenant.User)
	if err != nil {
		return failed("choosing a serial number", err)
	}
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, leaf, between, key.Public(), betweenKey)
	if err != nil {
		return failed("signing a certificate", err)
	}
	keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return failed("encoding the key", err)
	}
	current.CA, current.Key = bundle, keyPEM
	current.Certificate = append(pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: der}), chain...)
	return current, nil
}
