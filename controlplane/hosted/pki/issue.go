// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"
)

// Issue returns the complete set of Secrets, except DataStore. It fails when an
// existing authority or token key can't be read and has no copy, rather than to
// replace it: that would cut off every node.
func Issue(in Input) (Result, error) {
	s := &set{in: in, out: Result{Data: map[string]map[string][]byte{}, Refused: map[string]string{}}}
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
		by           anchor
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
		// Every API server binds this group to its own role for metrics and health.
		{Metrics, "tls", ca, Leaf{
			CommonName: MetricsUser, Organization: []string{"system:monitoring"}, Usage: x509.ExtKeyUsageClientAuth,
		}},
	}
	for _, l := range leaves {
		if l.secret == Konnectivity && !in.Konnectivity || l.secret == Metrics && !in.Metrics {
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

// MetricsUser is the name of Prometheus in the tenant.
const MetricsUser = "kamaji:metrics"

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

func (s *set) note(secret string, what Change) {
	s.out.Notes = append(s.out.Notes, Note{Secret: secret, Change: what})
}

func (s *set) authority(secret, commonName, file string) (anchor, error) {
	have := s.in.Existing[secret]
	if len(have[file+".crt"]) == 0 && len(have[file+".key"]) == 0 {
		return s.first(secret, commonName, file)
	}
	inUse := s.inUse(secret)
	a, repaired, err := readAnchor(have, file, inUse)
	if err != nil {
		return a, fmt.Errorf("authority in Secret %s: %w", secret, err)
	}
	own := s.own(secret)
	replaced := len(inUse) > 0 && !a.signer.among(inUse)
	switch {
	case replaced && own != nil && own.among(inUse):
		a = anchor{signer: own}
		s.note(secret, Repaired)
	case replaced:
		a = a.replace(inUse)
		s.note(secret, Replaced)
	case repaired:
		s.note(secret, Repaired)
	case PhaseOf(have) != Settled && s.in.Advance[secret]:
		a = a.advance()
		if PhaseOf(have) == Trusting {
			s.note(secret, SignsAnew)
		} else {
			s.note(secret, Retired)
		}
	case own != nil:
		a = s.follow(secret, a, own)
	case s.in.Rotate[secret] && PhaseOf(have) == Settled:
		next, err := newAuthority(commonName+"-"+s.in.Now.UTC().Format("20060102150405"), nil, nil, s.in.Now)
		if err != nil {
			return a, fmt.Errorf("authority in Secret %s: %w", secret, err)
		}
		a = s.begin(secret, a, next)
	case a.signer.selfSigned() && a.signer.cert.NotAfter.Add(-CARenewBefore).Before(s.in.Now):
		// The key stays, so nothing that it signed becomes invalid.
		renewed, err := newAuthority(a.signer.cert.Subject.CommonName, a.signer.key, a.signer.keyPEM, s.in.Now)
		if err != nil {
			return a, fmt.Errorf("authority in Secret %s: %w", secret, err)
		}
		a.signer = renewed
		s.note(secret, Renewed)
	}
	s.put(secret, file, a)
	return a, nil
}

func (s *set) put(secret, file string, a anchor) {
	due := time.Time{}
	if a.signer.selfSigned() && s.own(secret) == nil {
		due = a.signer.cert.NotAfter.Add(-CARenewBefore)
	}
	s.add(secret, a.data(file, secret == CA), due)
}

// first makes an authority that doesn't exist yet.
func (s *set) first(secret, commonName, file string) (anchor, error) {
	signer := s.own(secret)
	if signer == nil {
		var err error
		if signer, err = newAuthority(commonName, nil, nil, s.in.Now); err != nil {
			return anchor{}, fmt.Errorf("authority in Secret %s: %w", secret, err)
		}
	}
	a := anchor{signer: signer}
	s.note(secret, Issued)
	s.put(secret, file, a)
	return a, nil
}

// own is the user's authority, if there is one for this Secret.
func (s *set) own(secret string) *Authority {
	if secret == CA {
		return s.in.Own
	}
	return nil
}

// inUse are the certificates that clients trust instead of what the Secret says.
func (s *set) inUse(secret string) []*x509.Certificate {
	if secret == CA {
		return certificates(s.in.InUse)
	}
	return nil
}

// follow makes the anchor become the user's authority.
func (s *set) follow(secret string, a anchor, own *Authority) anchor {
	switch {
	case own.sameKey(a.signer):
		if s.in.Rotate[secret] {
			s.out.Refused[secret] = "the authority is the user's own: put another certificate and key where it comes from"
		}
		if !own.cert.Equal(a.signer.cert) {
			s.note(secret, Renewed)
		}
		a.signer = own
	case own.sameKey(a.next):
		a.next = own
	case len(a.previous) > 0:
		s.out.Refused[secret] = "the user's own authority has changed during a rotation: it is used when that has ended"
	default:
		return s.begin(secret, a, own)
	}
	return a
}

func (s *set) begin(secret string, a anchor, next *Authority) anchor {
	began, err := a.begin(next, s.in.Now)
	if err != nil {
		s.out.Refused[secret] = err.Error()
		return a
	}
	s.note(secret, TrustsNext)
	return began
}

func (s *set) serviceAccount() error {
	have := s.in.Existing[ServiceAccount]
	t, repaired, err := readTokens(have)
	phase := PhaseOf(have)
	switch {
	case len(have["sa.key"]) == 0 && len(have["sa.pub"]) == 0:
		_, t.key, err = newKey()
		s.note(ServiceAccount, Issued)
	case err != nil:
	case repaired:
		s.note(ServiceAccount, Repaired)
	case phase != Settled && s.in.Advance[ServiceAccount]:
		if t, err = t.advance(); phase == Trusting {
			s.note(ServiceAccount, SignsAnew)
		} else {
			s.note(ServiceAccount, Retired)
		}
	case phase == Settled && s.in.Rotate[ServiceAccount]:
		_, t.next, err = newKey()
		s.note(ServiceAccount, TrustsNext)
	}
	if err != nil {
		return fmt.Errorf("key in Secret %s: %w", ServiceAccount, err)
	}
	data, err := t.data()
	if err != nil {
		return fmt.Errorf("key in Secret %s: %w", ServiceAccount, err)
	}
	s.add(ServiceAccount, data, time.Time{})
	return nil
}

func (s *set) leaf(secret, file string, by anchor, leaf Leaf) error {
	have := s.in.Existing[secret]
	certPEM, keyPEM := have[file+".crt"], have[file+".key"]
	due, good := by.signer.Good(leaf, certPEM, keyPEM, s.in.Now)
	kept := false
	for _, former := range by.stranded(s.in.Now) {
		if at, fine := former.Good(leaf, certPEM, keyPEM, s.in.Now); fine && !good {
			due, good, kept = at, true, true
		}
	}
	if !good || s.in.Rotate[secret] {
		s.note(secret, Why(have[file+".crt"], good, due, s.in.Now))
		var err error
		if certPEM, keyPEM, err = by.signer.Sign(leaf, s.in.Now); err != nil {
			return fmt.Errorf("certificate in Secret %s: %w", secret, err)
		}
		due, kept = by.signer.Due(certPEM), false
	}
	if ends := Expiry(certPEM); s.out.Expires.IsZero() || ends.Before(s.out.Expires) {
		s.out.Expires = ends
	}
	if leaf.CommonName != KonnectivityUser && !kept {
		certPEM = chained(certPEM, by.chain())
	}
	data := map[string][]byte{file + ".crt": certPEM, file + ".key": keyPEM}
	if secret == Metrics {
		data["ca.crt"] = s.out.Data[CA]["ca.crt"]
	}
	s.add(secret, data, due)
	return nil
}

// chained is the first certificate and then the chain.
func chained(certPEM, chain []byte) []byte {
	block, rest := pem.Decode(certPEM)
	if block == nil || len(rest) == 0 && len(chain) == 0 {
		return certPEM
	}
	return join(pem.EncodeToMemory(block), chain)
}

// Why a certificate (PEM) is replaced that Good has judged.
func Why(have []byte, good bool, due, now time.Time) Change {
	switch {
	case len(have) == 0:
		return Issued
	case good:
		return Rotated
	case len(certificates(have)) == 0:
		return Repaired
	case !due.IsZero() && !now.Before(due):
		return Renewed
	default:
		return Reissued
	}
}
