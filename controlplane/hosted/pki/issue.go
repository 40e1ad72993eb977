// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"k8s.io/client-go/util/keyutil"
)

// Issue returns the complete set of Secrets, except DataStore. It fails when an
// existing authority or token key can't be read, rather than to replace it: that
// would cut off every node.
func Issue(in Input) (Result, error) {
	s := &set{in: in, out: Result{Data: map[string]map[string][]byte{}}}
	ca, err := s.authority(CA, "kubernetes", "ca")
	if err != nil {
		return Result{}, err
	}
	front, err := s.authority(FrontProxyCA, "front-proxy-ca", "front-proxy-ca")
	if err != nil {
		return Result{}, err
	}
	if err := s.serviceAccount(); err != nil {
		return Result{}, err
	}
	leaves := []struct {
		secret, file string
		by           *Authority
		leaf         Leaf
	}{
		{APIServer, "apiserver", ca, Leaf{
			CommonName: "kube-apiserver", DNSNames: in.SANs.DNSNames, IPs: in.SANs.IPs, Usage: x509.ExtKeyUsageServerAuth,
		}},
		// The rights of this user come from a binding in the tenant, not from a group.
		{APIServerKubeletClient, "apiserver-kubelet-client", ca, Leaf{
			CommonName: "kube-apiserver-kubelet-client", Usage: x509.ExtKeyUsageClientAuth,
		}},
		{FrontProxyClient, "front-proxy-client", front, Leaf{
			CommonName: "front-proxy-client", Usage: x509.ExtKeyUsageClientAuth,
		}},
		{Konnectivity, "tls", ca, Leaf{
			CommonName: KonnectivityUser, Usage: x509.ExtKeyUsageClientAuth,
		}},
	}
	for _, l := range leaves {
		if l.secret == Konnectivity && !in.Konnectivity {
			continue
		}
		if err := s.leaf(l.secret, l.file, l.by, l.leaf); err != nil {
			return Result{}, err
		}
	}
	slices.Sort(s.out.Changed)
	return s.out, nil
}

// KonnectivityUser is the name of the konnectivity server in the tenant. Its rights
// come from a binding there.
const KonnectivityUser = "system:konnectivity-server"

// set collects the Secrets.
type set struct {
	in  Input
	out Result
}

func (s *set) add(secret string, data map[string][]byte, due time.Time) {
	s.out.Data[secret] = data
	if !sameData(data, s.in.Existing[secret]) {
		s.out.Changed = append(s.out.Changed, secret)
	}
	if !due.IsZero() && (s.out.NextRenewal.IsZero() || due.Before(s.out.NextRenewal)) {
		s.out.NextRenewal = due
	}
}

func (s *set) authority(secret, commonName, file string) (*Authority, error) {
	have := s.in.Existing[secret]
	certPEM, keyPEM := have[file+".crt"], have[file+".key"]
	var (
		a   *Authority
		err error
	)
	switch {
	case len(certPEM) == 0 && len(keyPEM) == 0:
		a, err = newAuthority(commonName, nil, nil, s.in.Now)
	default:
		if a, err = ParseAuthority(certPEM, keyPEM); err == nil && a.cert.NotAfter.Add(-CARenewBefore).Before(s.in.Now) {
			// The key stays, so nothing that it signed becomes invalid.
			a, err = newAuthority(a.cert.Subject.CommonName, a.key, a.keyPEM, s.in.Now)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("authority in Secret %s: %w", secret, err)
	}
	data := map[string][]byte{file + ".crt": a.certPEM, file + ".key": a.keyPEM}
	if secret == CA {
		data["tls.crt"], data["tls.key"] = a.certPEM, a.keyPEM
	}
	s.add(secret, data, a.cert.NotAfter.Add(-CARenewBefore))
	return a, nil
}

func (s *set) serviceAccount() error {
	have := s.in.Existing[ServiceAccount]
	keyPEM := have["sa.key"]
	var (
		key crypto.Signer
		err error
	)
	if len(keyPEM) == 0 {
		key, keyPEM, err = newKey()
	} else {
		var parsed any
		if parsed, err = keyutil.ParsePrivateKeyPEM(keyPEM); err == nil {
			var ok bool
			if key, ok = parsed.(crypto.Signer); !ok {
				err = fmt.Errorf("a key of type %T can't sign", parsed)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("key in Secret %s: %w", ServiceAccount, err)
	}
	public, err := publicKeyPEM(key)
	if err != nil {
		return fmt.Errorf("key in Secret %s: %w", ServiceAccount, err)
	}
	s.add(ServiceAccount, map[string][]byte{"sa.key": keyPEM, "sa.pub": public}, time.Time{})
	return nil
}

func (s *set) leaf(secret, file string, by *Authority, leaf Leaf) error {
	have := s.in.Existing[secret]
	certPEM, keyPEM := have[file+".crt"], have[file+".key"]
	due, good := by.Good(leaf, certPEM, keyPEM, s.in.Now)
	if !good || s.in.Rotate[secret] {
		var err error
		if certPEM, keyPEM, err = by.Sign(leaf, s.in.Now); err != nil {
			return fmt.Errorf("certificate in Secret %s: %w", secret, err)
		}
		due = s.in.Now.Add(LeafValidity - LeafRenewBefore)
	}
	s.add(secret, map[string][]byte{file + ".crt": certPEM, file + ".key": keyPEM}, due)
	return nil
}
