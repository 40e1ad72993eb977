// SPDX-License-Identifier: Apache-2.0

package credentials_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/activator/credentials"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

var now = time.Now()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tenant is the PKI of one.
func tenant(t testing.TB) pki.Result {
	t.Helper()
	result, err := pki.Issue(pki.Input{Now: now})
	must(t, err)
	return result
}

func trustOf(result pki.Result) credentials.Trust {
	return credentials.Trust{
		Clients: result.Data[pki.CA][pki.ClientsFile], TokenKeys: result.Data[pki.ServiceAccount]["sa.pub"],
		Issuers: []string{issuer}, Audiences: []string{issuer},
	}
}

// client is a certificate of the tenant's authority.
func client(t testing.TB, from pki.Result, leaf pki.Leaf, at time.Time) *x509.Certificate {
	t.Helper()
	authority, err := pki.ParseAuthority(from.Authority())
	must(t, err)
	certPEM, _, err := authority.Sign(leaf, at)
	must(t, err)
	return parse(t, certPEM)
}

func parse(t testing.TB, certPEM []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(certPEM)
	cert, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return cert
}

// byItself is a certificate that names its own key's holder as an authority.
func byItself(t testing.TB) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes-admin", Organization: []string{"system:masters"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

func TestCertificates(t *testing.T) {
	mine, other := tenant(t), tenant(t)
	admin := pki.Leaf{CommonName: "kubernetes-admin", Organization: []string{"kubeadm:cluster-admins"}, Usage: x509.ExtKeyUsageClientAuth}
	good := client(t, mine, admin, now)
	rotated, err := pki.Issue(pki.Input{Now: now, Existing: mine.Data, Rotate: map[string]bool{pki.CA: true}})
	must(t, err)
	done := rotated
	for range 2 {
		done, err = pki.Issue(pki.Input{Now: now, Existing: done.Data, Advance: map[string]bool{pki.CA: true}})
		must(t, err)
	}
	for name, tc := range map[string]struct {
		trust credentials.Trust
		chain []*x509.Certificate
		want  string
	}{
		"an administrator":                     {trustOf(mine), []*x509.Certificate{good}, ""},
		"with the authority sent along":        {trustOf(mine), []*x509.Certificate{good, parse(t, mine.Data[pki.CA]["ca.crt"])}, ""},
		"while the authority is rotated":       {trustOf(rotated), []*x509.Certificate{good}, ""},
		"after the authority is rotated":       {trustOf(done), []*x509.Certificate{good}, "unknown authority"},
		"of the next authority":                {trustOf(done), []*x509.Certificate{client(t, done, admin, now)}, ""},
		"none":                                 {trustOf(mine), nil, "no client certificate"},
		"another tenant's":                     {trustOf(other), []*x509.Certificate{good}, "unknown authority"},
		"another tenant's, with its authority": {trustOf(other), []*x509.Certificate{good, parse(t, mine.Data[pki.CA]["ca.crt"])}, "unknown authority"},
		"its own authority":                    {trustOf(mine), []*x509.Certificate{byItself(t)}, "unknown authority"},
		"expired":                              {trustOf(mine), []*x509.Certificate{client(t, mine, admin, now.Add(-2*pki.LeafValidity))}, "expired"},
		"not valid yet":                        {trustOf(mine), []*x509.Certificate{client(t, mine, admin, now.Add(24*time.Hour))}, "not yet valid"},
		"a server's":                           {trustOf(mine), []*x509.Certificate{parse(t, mine.Data[pki.APIServer]["apiserver.crt"])}, "incompatible key usage"},
		"a front proxy's":                      {trustOf(mine), []*x509.Certificate{parse(t, mine.Data[pki.FrontProxyClient]["front-proxy-client.crt"])}, "unknown authority"},
		"nobody's":                             {trustOf(mine), []*x509.Certificate{client(t, mine, pki.Leaf{Organization: []string{"system:masters"}, Usage: x509.ExtKeyUsageClientAuth}, now)}, "names no user"},
		"without an authority to check by":     {credentials.Trust{}, []*x509.Certificate{good}, "no authority"},
	} {
		user, err := tc.trust.Certificate(tc.chain, now)
		switch {
		case tc.want != "":
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %+v, %v, want an error with %q", name, user, err, tc.want)
			}
		case err != nil || user.Name != admin.CommonName || !slices.Equal(user.Groups, admin.Organization) || user.Kind != credentials.Certificate:
			t.Errorf("%s: got %+v, %v", name, user, err)
		}
	}
}

func TestMachines(t *testing.T) {
	for name, tc := range map[string]struct {
		user credentials.User
		want bool
	}{
		"an administrator":    {credentials.User{Name: "kubernetes-admin", Groups: []string{"system:masters"}}, false},
		"somebody":            {credentials.User{Name: "alice"}, false},
		"an application":      {credentials.User{Name: "system:serviceaccount:ci:deployer", Groups: []string{"system:serviceaccounts"}}, false},
		"a node":              {credentials.User{Name: "system:node:worker-1", Groups: []string{"system:nodes"}}, true},
		"a node by its group": {credentials.User{Name: "worker-1", Groups: []string{"a", "system:nodes"}}, true},
		"kube-proxy":          {credentials.User{Name: "system:serviceaccount:kube-system:kube-proxy"}, true},
		"a component":         {credentials.User{Name: "system:kube-scheduler"}, true},
	} {
		if got := tc.user.Machine(); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
