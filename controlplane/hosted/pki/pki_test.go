// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
)

var (
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	all   = []string{APIServerKubeletClient, APIServer, CA, FrontProxyCA, FrontProxyClient, Konnectivity, ServiceAccount}
	leafs = []string{APIServerKubeletClient, APIServer, FrontProxyClient, Konnectivity}
	names = SANs{DNSNames: []string{"demo.example.com", "kubernetes"}, IPs: []net.IP{net.ParseIP("10.96.0.1")}}
)

func TestIssueRenewal(t *testing.T) {
	fresh := Input{SANs: names, Konnectivity: true, Now: start}
	first, err := Issue(fresh)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	if diff := cmp.Diff(all, first.Changed); diff != "" {
		t.Fatalf("a new tenant changes (-want +got):\n%s", diff)
	}
	if want := start.Add(LeafValidity - LeafRenewBefore); !first.NextRenewal.Equal(want) {
		t.Errorf("NextRenewal = %s, want %s", first.NextRenewal, want)
	}

	if want := start.Add(LeafValidity); !first.Expires.Equal(want) {
		t.Errorf("Expires = %s, want %s", first.Expires, want)
	}
	cases := []struct {
		name   string
		change func(*Input)
		want   []string
	}{
		{"nothing", func(*Input) {}, nil},
		{"almost due", func(in *Input) { in.Now = start.Add(LeafValidity - LeafRenewBefore - time.Second) }, nil},
		{"due", func(in *Input) { in.Now = start.Add(LeafValidity - LeafRenewBefore) }, leafs},
		{"expired", func(in *Input) { in.Now = start.Add(LeafValidity + time.Hour) }, leafs},
		{"authority due", func(in *Input) { in.Now = start.Add(CAValidity - CARenewBefore + time.Second) }, []string{
			APIServerKubeletClient, APIServer, CA, FrontProxyCA, FrontProxyClient, Konnectivity,
		}},
		{"another name", func(in *Input) { in.SANs.DNSNames = []string{"other.example.com"} }, []string{APIServer}},
		{"another order of names", func(in *Input) { in.SANs.DNSNames = []string{"kubernetes", "demo.example.com"} }, nil},
		{"another address", func(in *Input) { in.SANs.IPs = []net.IP{net.ParseIP("10.96.0.2")} }, []string{APIServer}},
		{"rotate one", func(in *Input) { in.Rotate = map[string]bool{FrontProxyClient: true} }, []string{FrontProxyClient}},
		{"certificate lost", func(in *Input) { delete(in.Existing, APIServer) }, []string{APIServer}},
		{"certificate damaged", func(in *Input) {
			in.Existing[APIServer] = map[string][]byte{"apiserver.crt": []byte("?"), "apiserver.key": []byte("?")}
		}, []string{APIServer}},
		{"keys exchanged", func(in *Input) {
			in.Existing[APIServer]["apiserver.key"] = in.Existing[FrontProxyClient]["front-proxy-client.key"]
		}, []string{APIServer}},
		{"stray key", func(in *Input) { in.Existing[CA]["note"] = []byte("x") }, []string{CA}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			in := fresh
			in.Existing = clone(first.Data)
			tc.change(&in)
			got, err := Issue(in)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(tc.want)
			if diff := cmp.Diff(tc.want, got.Changed); diff != "" {
				t.Errorf("changed (-want +got):\n%s", diff)
			}
			for _, secret := range all {
				if !slices.Contains(tc.want, secret) && !sameData(got.Data[secret], first.Data[secret]) {
					t.Errorf("%s isn't byte for byte what it was", secret)
				}
			}
			verify(t, got, in.Now)
			in.Existing = got.Data
			in.Rotate = nil
			again, err := Issue(in)
			if err != nil || len(again.Changed) != 0 {
				t.Errorf("the second pass changes %v, %v", again.Changed, err)
			}
		})
	}
}

func TestAuthorityKeepsItsKey(t *testing.T) {
	first, err := Issue(Input{Now: start})
	if err != nil {
		t.Fatal(err)
	}
	later, err := Issue(Input{Now: start.Add(CAValidity - LeafValidity), Existing: first.Data})
	if err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(first.Data[CA]["ca.key"], later.Data[CA]["ca.key"]) {
		t.Error("a renewed authority has another key, so nodes that trust the old certificate are cut off")
	}
	if cmp.Equal(first.Data[CA]["ca.crt"], later.Data[CA]["ca.crt"]) {
		t.Error("the authority was not renewed")
	}
}

func TestUnreadableAuthorityIsNotReplaced(t *testing.T) {
	for name, data := range map[string]map[string][]byte{
		"no key":         {"ca.crt": []byte("x")},
		"garbage":        {"ca.crt": []byte("x"), "ca.key": []byte("y")},
		"no certificate": {"ca.key": []byte("x")},
	} {
		if _, err := Issue(Input{Now: start, Existing: map[string]map[string][]byte{CA: data}}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := Issue(Input{Now: start, Existing: map[string]map[string][]byte{ServiceAccount: {"sa.key": []byte("y")}}}); err == nil {
		t.Error("damaged token key: no error")
	}
}

func TestIdentities(t *testing.T) {
	got, err := Issue(Input{Now: start, Konnectivity: true})
	if err != nil {
		t.Fatal(err)
	}
	for secret, file := range map[string]string{Konnectivity: "tls.crt", APIServerKubeletClient: "apiserver-kubelet-client.crt"} {
		certs, err := cert.ParseCertsPEM(got.Data[secret][file])
		if err != nil {
			t.Fatal(err)
		}
		if len(certs[0].Subject.Organization) != 0 {
			t.Errorf("%s is in groups %v; its rights must come from a binding", secret, certs[0].Subject.Organization)
		}
	}
	if _, ok := mustIssue(t, Input{Now: start}).Data[Konnectivity]; ok {
		t.Error("a konnectivity certificate although it is not wanted")
	}
}

func TestServingSANs(t *testing.T) {
	tenant := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: "tenants"}}
	tenant.Spec.NetworkProfile.ServiceCIDRs = []string{"10.96.0.0/16", "fd00::/112"}
	tenant.Spec.NetworkProfile.CertSANs = []string{"extra.example.com", "192.0.2.9", "*.wild.example.com", "extra.example.com"}
	got, err := ServingSANs(tenant, endpoint.Endpoint{Names: []string{"demo.example.com"}, Addresses: []string{"10.0.0.5", "10.0.0.5"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"*.wild.example.com", "demo", "demo.example.com", "demo.tenants", "demo.tenants.svc", "demo.tenants.svc.cluster.local",
		"extra.example.com", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost",
	}
	if diff := cmp.Diff(want, got.DNSNames); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"10.0.0.5", "10.96.0.1", "127.0.0.1", "192.0.2.9", "::1", "fd00::1"}, texts(got.IPs)); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	tenant.Spec.NetworkProfile.CertSANs = []string{"not a name"}
	if _, err := ServingSANs(tenant, endpoint.Endpoint{}); err == nil {
		t.Error("an impossible name is accepted")
	}
}

func verify(t *testing.T, r Result, now time.Time) {
	t.Helper()
	for _, leaf := range []struct{ secret, file, by, byFile string }{
		{APIServer, "apiserver.crt", CA, "ca.crt"},
		{APIServerKubeletClient, "apiserver-kubelet-client.crt", CA, "ca.crt"},
		{Konnectivity, "tls.crt", CA, "tls.crt"},
		{FrontProxyClient, "front-proxy-client.crt", FrontProxyCA, "front-proxy-ca.crt"},
	} {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(r.Data[leaf.by][leaf.byFile])
		certs, err := cert.ParseCertsPEM(r.Data[leaf.secret][leaf.file])
		if err != nil {
			t.Fatal(err)
		}
		options := x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
		if _, err := certs[0].Verify(options); err != nil {
			t.Errorf("%s doesn't verify: %v", leaf.secret, err)
		}
	}
}

func mustIssue(t *testing.T, in Input) Result {
	t.Helper()
	out, err := Issue(in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func clone(data map[string]map[string][]byte) map[string]map[string][]byte {
	out := map[string]map[string][]byte{}
	for secret, values := range data {
		out[secret] = map[string][]byte{}
		for key, value := range values {
			out[secret][key] = slices.Clone(value)
		}
	}
	return out
}
