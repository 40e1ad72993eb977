// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

var anchors = map[string]string{CA: "ca.crt", FrontProxyCA: "front-proxy-ca.crt", ServiceAccount: "sa.pub"}

func only(names ...string) map[string]bool {
	out := map[string]bool{}
	for _, name := range names {
		out[name] = true
	}
	return out
}

// trusts tells whether who has the bundle accepts the certificate with what its owner sends after it.
func trusts(bundle, certPEM []byte, now time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	certs := certificates(certPEM)
	if len(certs) == 0 {
		return fmt.Errorf("no certificate")
	}
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	_, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

// meet checks that a side with the files of one state and a side with those of another accept each other.
func meet(t *testing.T, server, client Result, now time.Time) {
	t.Helper()
	signer, err := ParseAuthority(client.Data[CA][SignerFile], client.Data[CA]["ca.key"])
	if err != nil {
		t.Fatal(err)
	}
	node, _, err := signer.Sign(Leaf{CommonName: "system:node:a", Organization: []string{"system:nodes"}, Usage: x509.ExtKeyUsageClientAuth}, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what         string
		bundle, cert []byte
	}{
		{"the serving certificate", client.Data[CA]["ca.crt"], server.Data[APIServer]["apiserver.crt"]},
		{"the client of kubelets", client.Data[CA]["ca.crt"], server.Data[APIServerKubeletClient]["apiserver-kubelet-client.crt"]},
		{"a client of the API server", server.Data[CA][ClientsFile], client.Data[Konnectivity]["tls.crt"]},
		{"a node of the API server", server.Data[CA][ClientsFile], node},
		{"the front proxy", client.Data[FrontProxyCA]["front-proxy-ca.crt"], server.Data[FrontProxyClient]["front-proxy-client.crt"]},
	} {
		if err := trusts(c.bundle, c.cert, now); err != nil {
			t.Errorf("%s isn't accepted: %v", c.what, err)
		}
	}
	key, err := parseKey(client.Data[ServiceAccount]["sa.key"])
	if err != nil {
		t.Fatal(err)
	}
	keys, err := keyutil.ParsePublicKeysPEM(server.Data[ServiceAccount]["sa.pub"])
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
			return
		}
	}
	t.Error("a token isn't accepted")
}

func TestRotation(t *testing.T) {
	for secret, file := range anchors {
		t.Run(secret, func(t *testing.T) {
			fresh := Input{SANs: names, Konnectivity: true, Now: start}
			before := mustIssue(t, fresh)
			step := func(have Result, phase Phase, rotate, advance map[string]bool, note Change) Result {
				t.Helper()
				in := fresh
				in.Existing, in.Rotate, in.Advance = clone(have.Data), rotate, advance
				out := mustIssue(t, in)
				if got := PhaseOf(out.Data[secret]); got != phase {
					t.Fatalf("phase %q, want %q", got, phase)
				}
				if note != "" && !hasNote(out, secret, note) {
					t.Errorf("notes %v lack %s of %s", out.Notes, note, secret)
				}
				return out
			}
			trusting := step(before, Trusting, only(secret), nil, TrustsNext)
			if again := step(trusting, Trusting, only(secret), nil, ""); len(again.Changed) != 0 {
				t.Errorf("asking again changes %v", again.Changed)
			}
			if diff := cmp.Diff([]string{secret}, trusting.Changed); diff != "" {
				t.Errorf("before the next one signs, changed (-want +got):\n%s", diff)
			}
			retiring := step(trusting, Retiring, nil, only(secret), SignsAnew)
			if again := step(retiring, Retiring, nil, nil, ""); len(again.Changed) != 0 {
				t.Errorf("a second pass changes %v", again.Changed)
			}
			after := step(retiring, Settled, nil, only(secret), Retired)
			if bytes.Contains(after.Data[secret][file], before.Data[secret][file]) {
				t.Error("the former one is trusted after the end")
			}
			if !sameKeys(after.Data[secret], before.Data[secret]) {
				t.Error("files are left over")
			}
			for _, pair := range [][2]Result{
				{before, trusting}, {trusting, before}, {trusting, retiring}, {retiring, trusting}, {retiring, before}, {retiring, after}, {after, retiring}, {after, after},
			} {
				meet(t, pair[0], pair[1], start)
			}
		})
	}
}

func sameKeys(a, b map[string][]byte) bool {
	for key := range a {
		if _, ok := b[key]; !ok {
			return false
		}
	}
	return len(a) == len(b)
}

func hasNote(r Result, secret string, change Change) bool {
	for _, n := range r.Notes {
		if n.Secret == secret && n.Change == change {
			return true
		}
	}
	return false
}

// TestRotationProperty takes random steps. Whatever happens, the states before and after a step work together, since
// pods of both run at the same time; and nothing changes when nothing is asked.
func TestRotationProperty(t *testing.T) {
	for seed := range uint64(8) {
		r := mathrand.New(mathrand.NewPCG(seed, 1)) //nolint:gosec // repeatable on purpose
		in := Input{SANs: names, Konnectivity: true, Now: start}
		before := mustIssue(t, in)
		for range 12 {
			in.Rotate, in.Advance = map[string]bool{}, map[string]bool{}
			for name := range anchors {
				in.Rotate[name] = r.IntN(3) == 0
				in.Advance[name] = r.IntN(3) == 0
			}
			for _, name := range leafs {
				in.Rotate[name] = r.IntN(8) == 0
			}
			in.Now = in.Now.Add(time.Duration(r.IntN(60*24)) * time.Hour)
			in.Existing = clone(before.Data)
			// The order of the steps of a pass is that of maps, so the seed doesn't repeat everything; the property holds anyway.
			after := mustIssue(t, in)
			// The certificates of the state before were made for its time.
			meet(t, before, after, in.Now.Add(-time.Minute))
			meet(t, after, before, in.Now.Add(-time.Minute))
			still := in
			still.Rotate, still.Advance, still.Existing = nil, nil, clone(after.Data)
			if again := mustIssue(t, still); len(again.Changed) != 0 {
				t.Fatalf("seed %d: a second pass changes %v", seed, again.Changed)
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
			before = after
		}
	}
}

// authorityOf makes a user's authority, signed by parent or by itself.
func authorityOf(t *testing.T, name string, parent *Authority, change func(*x509.Certificate)) *Authority {
	t.Helper()
	key, keyPEM, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	if change != nil {
		change(template)
	}
	by, signer := template, key
	var rest []byte
	if parent != nil {
		by, signer, rest = parent.cert, parent.key, parent.bundle()
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	out, err := ParseAuthority(join(pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: der}), rest), keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOwnAuthority(t *testing.T) {
	root := authorityOf(t, "root", nil, nil)
	limited := func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }
	first := authorityOf(t, "first", root, limited)
	in := Input{SANs: names, Konnectivity: true, Now: start, Own: first}
	got := mustIssue(t, in)
	verify(t, got, start)
	if err := trusts(encode(root.cert), got.Data[APIServer]["apiserver.crt"], start); err != nil {
		t.Errorf("who knows only the root: %v", err)
	}
	if diff := cmp.Diff(1, len(certificates(got.Data[CA][SignerFile]))); diff != "" {
		t.Error("kube-controller-manager gets more than one certificate")
	}
	// Another authority under the same root must not make clients.
	stranger := authorityOf(t, "stranger", root, nil)
	certPEM, _, err := stranger.Sign(Leaf{CommonName: "admin", Organization: []string{"system:masters"}, Usage: x509.ExtKeyUsageClientAuth}, start)
	if err != nil {
		t.Fatal(err)
	}
	if trusts(got.Data[CA][ClientsFile], join(certPEM, stranger.chain()), start) == nil {
		t.Error("a client of another authority under the same root is accepted")
	}
	end := certificates(got.Data[APIServer]["apiserver.crt"])[0].NotAfter
	if end.After(first.cert.NotAfter) {
		t.Error("a certificate outlives the authority")
	}
	in.Existing = got.Data
	for _, days := range []int{1, 60, 89} {
		in.Now = start.Add(time.Duration(days) * 24 * time.Hour)
		if again := mustIssue(t, in); len(again.Changed)+len(again.Notes) != 0 {
			t.Errorf("after %d days changed: %v, %v", days, again.Changed, again.Notes)
		}
	}
	in.Now = start

	t.Run("the same key, renewed", func(t *testing.T) {
		renewed := *first
		in := in
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			Subject: pkix.Name{CommonName: "first"}, SubjectKeyId: first.cert.SubjectKeyId, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(200 * 24 * time.Hour),
			BasicConstraintsValid: true, IsCA: true,
		}, root.cert, first.key.Public(), root.key)
		if err != nil {
			t.Fatal(err)
		}
		c, _ := x509.ParseCertificate(der)
		renewed.cert, renewed.certPEM = c, encode(c)
		in.Own, in.Existing = &renewed, clone(got.Data)
		after := mustIssue(t, in)
		if PhaseOf(after.Data[CA]) != Settled || !hasNote(after, CA, Renewed) {
			t.Errorf("phase %q, notes %v", PhaseOf(after.Data[CA]), after.Notes)
		}
		meet(t, got, after, start)
		meet(t, after, got, start)
	})
	t.Run("another key under the same root", func(t *testing.T) {
		in := in
		in.Own, in.Existing = authorityOf(t, "second", root, limited), clone(got.Data)
		trusting := mustIssue(t, in)
		if PhaseOf(trusting.Data[CA]) != Trusting {
			t.Fatalf("refused: %v", trusting.Refused)
		}
		in.Existing, in.Advance = clone(trusting.Data), only(CA)
		retiring := mustIssue(t, in)
		meet(t, retiring, trusting, start)
		meet(t, trusting, retiring, start)
		in.Existing, in.Advance = clone(retiring.Data), nil
		if again := mustIssue(t, in); len(again.Changed)+len(again.Notes) != 0 {
			t.Errorf("a second pass changes %v: %v", again.Changed, again.Notes)
		}
		if err := trusts(got.Data[CA]["ca.crt"], retiring.Data[APIServer]["apiserver.crt"], start); err != nil {
			t.Errorf("a node from before: %v", err)
		}
	})
	t.Run("another root, which the present one can't vouch for", func(t *testing.T) {
		in := in
		in.Own, in.Existing = authorityOf(t, "else", nil, nil), clone(got.Data)
		after := mustIssue(t, in)
		if len(after.Changed) != 0 || !strings.Contains(after.Refused[CA], "path length") {
			t.Errorf("changed %v, refused %v", after.Changed, after.Refused)
		}
	})
	t.Run("rotation on request", func(t *testing.T) {
		in := in
		in.Rotate, in.Existing = only(CA), clone(got.Data)
		after := mustIssue(t, in)
		if len(after.Changed) != 0 || after.Refused[CA] == "" {
			t.Errorf("changed %v, refused %v", after.Changed, after.Refused)
		}
	})
	t.Run("instead of the generated one", func(t *testing.T) {
		generated := mustIssue(t, Input{SANs: names, Konnectivity: true, Now: start})
		in := in
		in.Existing = clone(generated.Data)
		trusting := mustIssue(t, in)
		in.Existing, in.Advance = clone(trusting.Data), only(CA)
		retiring := mustIssue(t, in)
		meet(t, retiring, generated, start)
		in.Existing = clone(retiring.Data)
		after := mustIssue(t, in)
		if PhaseOf(after.Data[CA]) != Settled || !bytes.Equal(after.Data[CA][SignerFile], encode(first.cert)) {
			t.Errorf("the user's authority doesn't sign: %v", after.Notes)
		}
	})
	t.Run("limited to other names", func(t *testing.T) {
		_, err := Issue(Input{SANs: names, Now: start, Own: authorityOf(t, "narrow", nil, func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"example.org"}
		})})
		if err == nil || !strings.Contains(err.Error(), "may not sign") {
			t.Errorf("error %v", err)
		}
	})
}

func TestRepair(t *testing.T) {
	good := mustIssue(t, Input{SANs: names, Konnectivity: true, Now: start})
	trusting := mustIssue(t, Input{SANs: names, Konnectivity: true, Now: start, Existing: clone(good.Data), Rotate: only(CA, ServiceAccount)})
	cases := []struct {
		name   string
		from   Result
		secret string
		spoil  func(map[string][]byte)
		phase  Phase
	}{
		{"certificate of the authority", good, CA, func(d map[string][]byte) { d["ca.crt"] = []byte("?") }, Settled},
		{"key of the authority", good, CA, func(d map[string][]byte) { d["ca.key"] = []byte("?") }, Settled},
		{"both, in one place", good, CA, func(d map[string][]byte) { d["ca.key"], d["ca.crt"] = nil, []byte("?") }, Settled},
		{"key of another", good, CA, func(d map[string][]byte) { d["ca.key"] = good.Data[ServiceAccount]["sa.key"] }, Settled},
		{"token key", good, ServiceAccount, func(d map[string][]byte) { d["sa.key"] = []byte("?") }, Retiring},
		{"next authority", trusting, CA, func(d map[string][]byte) { d["next.crt"] = []byte("?") }, Settled},
		{"next token key", trusting, ServiceAccount, func(d map[string][]byte) { d["next.key"] = []byte("?") }, Settled},
		{"serving certificate", good, APIServer, func(d map[string][]byte) { d["apiserver.crt"] = []byte("?") }, Settled},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			in := Input{SANs: names, Konnectivity: true, Now: start, Existing: clone(tc.from.Data)}
			tc.spoil(in.Existing[tc.secret])
			got := mustIssue(t, in)
			if !hasNote(got, tc.secret, Repaired) || PhaseOf(got.Data[tc.secret]) != tc.phase {
				t.Errorf("notes %v, phase %q", got.Notes, PhaseOf(got.Data[tc.secret]))
			}
			meet(t, got, tc.from, start)
			in.Existing = clone(got.Data)
			if again := mustIssue(t, in); len(again.Changed) != 0 {
				t.Errorf("a second pass changes %v", again.Changed)
			}
		})
	}
}

func TestIdentity(t *testing.T) {
	first := mustIssue(t, Input{SANs: names, Now: start})
	in := Input{SANs: names, Now: start, Existing: clone(first.Data), Rotate: only(APIServer)}
	renewed := mustIssue(t, in)
	in.SANs.DNSNames = append(in.SANs.DNSNames, "other.example.com")
	in.Existing, in.Rotate = clone(renewed.Data), nil
	other := mustIssue(t, in)
	id := func(r Result) string { return Identity(r.Data[APIServer]["apiserver.crt"]) }
	if id(first) != id(renewed) || id(first) == id(other) || len(id(first)) != 32 {
		t.Errorf("%s, renewed %s, with another name %s", id(first), id(renewed), id(other))
	}
}
