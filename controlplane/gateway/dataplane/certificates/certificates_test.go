// SPDX-License-Identifier: Apache-2.0

package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// issue makes a certificate with an authority of its own, as one Bundle.
func issue(t *testing.T, uri string, until time.Time) Bundle {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: until.Add(-100 * time.Hour), NotAfter: until.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	u, err := url.Parse(uri)
	must(t, err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: until.Add(-100 * time.Hour), NotAfter: until, URIs: []*url.URL{u},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	must(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return Bundle{CA: block("CERTIFICATE", caDER), Cert: block("CERTIFICATE", der), Key: block("EC PRIVATE KEY", keyDER)}
}

// apiServer answers as one does that knows one token and one Secret, and returns a kubeconfig for it with the given token.
func apiServer(t *testing.T, data map[string][]byte, token string) string {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer right":
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"kind":"Status","message":"Unauthorized"}`)
		case r.URL.Path != "/api/v1/namespaces/kamaji-system/secrets/kamaji-gateway-edge-xds":
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind":"Status","message":"secrets is forbidden"}`)
		default:
			must(t, json.NewEncoder(w).Encode(map[string]any{"kind": "Secret", "data": data}))
		}
	}))
	t.Cleanup(server.Close)
	config := map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"contexts": []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "management", "user": "edge"}}},
		"clusters": []any{map[string]any{"name": "management", "cluster": map[string]any{
			"server":                     server.URL,
			"certificate-authority-data": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		}}},
		"users": []any{map[string]any{"name": "edge", "user": map[string]any{"tokenFile": "token"}}},
	}
	text, err := yaml.Marshal(config)
	must(t, err)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "token"), []byte(token+"\n"), 0o600))
	path := filepath.Join(dir, "kubeconfig")
	must(t, os.WriteFile(path, text, 0o600))
	return path
}

func secretOf(b Bundle) map[string][]byte {
	return map[string][]byte{"ca.crt": b.CA, "tls.crt": b.Cert, "tls.key": b.Key}
}

func TestFetch(t *testing.T) {
	want := issue(t, "spiffe://kamaji/gateway/edge", time.Now().Add(time.Hour))
	got, err := Fetch(t.Context(), apiServer(t, secretOf(want), "right"), "kamaji-system", "edge")
	must(t, err)
	if string(got.Cert) != string(want.Cert) || string(got.Key) != string(want.Key) || string(got.CA) != string(want.CA) {
		t.Error("what was fetched is not what the Secret holds")
	}
	for _, tc := range []struct {
		name, kubeconfig, gateway, want string
	}{
		{"another token", apiServer(t, secretOf(want), "wrong"), "edge", "Unauthorized"},
		{"another gateway's", apiServer(t, secretOf(want), "right"), "other", "forbidden"},
		{"not issued yet", apiServer(t, map[string][]byte{"tls.key": want.Key}, "right"), "edge", "was the certificate issued?"},
		{"no kubeconfig", filepath.Join(t.TempDir(), "none"), "edge", "reading the kubeconfig"},
	} {
		_, err := Fetch(t.Context(), tc.kubeconfig, "kamaji-system", tc.gateway)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestKubeconfigs(t *testing.T) {
	const contexts = "current-context: c\ncontexts: [{name: c, context: {cluster: m, user: u}}]\n"
	for name, tc := range map[string]struct{ text, want string }{
		"none of a context": {"current-context: x\n", "names no context"},
		"plain HTTP":        {contexts + "clusters: [{name: m, cluster: {server: 'http://192.0.2.1'}}]\n", "no https URL"},
		"any server":        {contexts + "clusters: [{name: m, cluster: {server: 'https://192.0.2.1'}}]\nusers: [{name: u, user: {token: x}}]\n", "no certificate-authority-data"},
		"a certificate":     {contexts + "clusters: [{name: m, cluster: {server: 'https://192.0.2.1', certificate-authority-data: YQ==}}]\nusers: [{name: u, user: {client-key-data: x}}]\n", "no token"},
		"a missing file":    {contexts + "clusters: [{name: m, cluster: {server: 'https://192.0.2.1', certificate-authority: none}}]\n", "certificate-authority: open"},
		"no YAML":           {"]", "reading the kubeconfig"},
	} {
		path := filepath.Join(t.TempDir(), "kubeconfig")
		must(t, os.WriteFile(path, []byte(tc.text), 0o600))
		if _, err := loadKubeconfig(path); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

func TestCheck(t *testing.T) {
	now := time.Now()
	good := issue(t, "spiffe://kamaji/gateway/edge", now.Add(time.Hour))
	other := issue(t, "spiffe://kamaji/gateway/edge", now.Add(time.Hour))
	if until, err := good.Check("edge", now); err != nil || until.Unix() != now.Add(time.Hour).Unix() {
		t.Errorf("got %s, %v, want an hour from now", until, err)
	}
	for name, tc := range map[string]struct {
		bundle Bundle
		want   string
	}{
		"expired":             {issue(t, "spiffe://kamaji/gateway/edge", now.Add(-time.Minute)), "expired"},
		"another gateway's":   {issue(t, "spiffe://kamaji/gateway/other", now.Add(time.Hour)), `gateway "other"`},
		"for something else":  {issue(t, "spiffe://kamaji/manager", now.Add(time.Hour)), "has no URI"},
		"another's key":       {Bundle{CA: good.CA, Cert: good.Cert, Key: other.Key}, "private key does not match"},
		"another's authority": {Bundle{CA: other.CA, Cert: good.Cert, Key: good.Key}, "unknown authority"},
		"no authority":        {Bundle{CA: good.Key, Cert: good.Cert, Key: good.Key}, "holds no certificate"},
	} {
		if _, err := tc.bundle.Check("edge", now); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	first, second := issue(t, "spiffe://kamaji/gateway/edge", time.Now()), issue(t, "spiffe://kamaji/gateway/edge", time.Now())
	for _, tc := range []struct {
		name    string
		bundle  Bundle
		changed bool
	}{{"the first", first, true}, {"the same again", first, false}, {"its successor", second, true}} {
		if changed, err := tc.bundle.Write(dir); err != nil || changed != tc.changed {
			t.Errorf("%s: changed %t, %v, want %t", tc.name, changed, err, tc.changed)
		}
		for name, want := range secretOf(tc.bundle) {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != string(want) {
				t.Errorf("%s: %s is not what was to be written (%v)", tc.name, name, err)
			}
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "tls.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("tls.key: %v, %v, want mode 600", info.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("%d files, %v, want 3", len(entries), err)
	}
	if _, err := first.Write(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that doesn't exist: want an error")
	}
}
