// SPDX-License-Identifier: Apache-2.0

package generator

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/cert"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeconfig"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func tenant() *kamajiv1alpha1.TenantControlPlane {
	out := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{
		Name: "demo", Namespace: "tenants", UID: "u", Labels: map[string]string{"tier": "gold"},
	}}
	out.Spec.Kubernetes.Version = "v1.36.3"
	out.Spec.NetworkProfile.Port = 6443
	return out
}

// secrets are what the engine makes for a tenant.
func secrets(t *testing.T, existing map[string]map[string][]byte, rotate, advance bool) (map[string]map[string][]byte, map[string][]byte) {
	t.Helper()
	certs, err := pki.Issue(pki.Input{Now: start, Existing: existing, Rotate: map[string]bool{pki.CA: rotate}, Advance: map[string]bool{pki.CA: advance}})
	if err != nil {
		t.Fatal(err)
	}
	in := kubeconfig.Input{
		Cluster: "demo", LocalPort: 6443, Now: start,
		Endpoint: endpoint.Endpoint{
			Client:  endpoint.Server{Host: "203.0.113.10", Port: 6443, ServerName: "demo.example.com"},
			Service: endpoint.Server{Host: "demo.tenants.svc", Port: 6443},
		},
	}
	in.CACert, in.CAKey = certs.Authority()
	configs, err := kubeconfig.Issue(in)
	if err != nil {
		t.Fatal(err)
	}
	return certs.Data, configs.Data[kubeconfig.Admin]
}

func TestWanted(t *testing.T) {
	certs, admin := secrets(t, nil, false, false)
	g := &kamajiv1alpha1.KubeconfigGenerator{ObjectMeta: metav1.ObjectMeta{Name: "viewers"}}
	g.Spec.User = kamajiv1alpha1.CompoundValue{FromDefinition: "metadata.name"}
	g.Spec.Groups = []kamajiv1alpha1.CompoundValue{{StringValue: "viewers"}, {FromDefinition: "metadata.namespace"}}
	in := inputs{ca: certs[pki.CA], admin: admin}
	made, due, change, err := wanted(g, tenant(), in, start)
	if err != nil || change != pki.Issued || !due.Equal(start.Add(pki.LeafValidity-pki.LeafRenewBefore)) {
		t.Fatalf("%v, due %s, %s", err, due, change)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(made.Data[Key])
	if err != nil {
		t.Fatal(err)
	}
	have, err := cert.ParseCertsPEM(config.CertData)
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != "https://demo.tenants.svc:6443" || have[0].Subject.CommonName != "demo" || !cmp.Equal(have[0].Subject.Organization, []string{"tenants", "viewers"}) {
		t.Errorf("%s at %s", have[0].Subject, config.Host)
	}
	want := map[string]string{
		"kamaji.clastix.io/project": "kamaji", "kamaji.clastix.io/managed-by": "viewers", "kamaji.clastix.io/managed-for": "demo",
		"kamaji.clastix.io/certificate_lifecycle_controller": "kubeconfig",
	}
	if diff := cmp.Diff(want, made.Labels); made.Name != "demo-viewers" || diff != "" {
		t.Errorf("Secret %s, labels (-want +got):\n%s", made.Name, diff)
	}

	in.existing = made.Data
	trusting, _ := secrets(t, certs, true, false)
	retiring, after := secrets(t, trusting, false, true)
	for _, tc := range []struct {
		name   string
		change func(*kamajiv1alpha1.KubeconfigGenerator, *inputs) time.Time
		want   pki.Change
		err    string
	}{
		{"nothing", func(*kamajiv1alpha1.KubeconfigGenerator, *inputs) time.Time { return start }, "", ""},
		{"due", func(*kamajiv1alpha1.KubeconfigGenerator, *inputs) time.Time { return due }, pki.Renewed, ""},
		{"another user", func(g *kamajiv1alpha1.KubeconfigGenerator, _ *inputs) time.Time {
			g.Spec.User = kamajiv1alpha1.CompoundValue{StringValue: "jane"}
			return start
		}, pki.Reissued, ""},
		{"another address", func(g *kamajiv1alpha1.KubeconfigGenerator, _ *inputs) time.Time {
			g.Spec.ControlPlaneEndpointFrom = "admin.conf"
			return start
		}, pki.Reissued, ""},
		{"garbage", func(_ *kamajiv1alpha1.KubeconfigGenerator, in *inputs) time.Time {
			in.existing = map[string][]byte{Key: []byte("?")}
			return start
		}, pki.Repaired, ""},
		{"the next authority signs", func(_ *kamajiv1alpha1.KubeconfigGenerator, in *inputs) time.Time {
			in.ca, in.admin = retiring[pki.CA], after
			return start
		}, pki.Reissued, ""},
		{"no such key", func(g *kamajiv1alpha1.KubeconfigGenerator, _ *inputs) time.Time {
			g.Spec.ControlPlaneEndpointFrom = "x"
			return start
		}, "", "no key x"},
		{"no such field", func(g *kamajiv1alpha1.KubeconfigGenerator, _ *inputs) time.Time {
			g.Spec.User.FromDefinition = "spec.nothing"
			return start
		}, "", "spec.user: fromDefinition: the TenantControlPlane has no spec.nothing"},
		{"no single value", func(g *kamajiv1alpha1.KubeconfigGenerator, _ *inputs) time.Time {
			g.Spec.Groups[1].FromDefinition = "metadata.labels"
			return start
		}, "", "spec.groups[1]"},
		{"a name of the engine", func(g *kamajiv1alpha1.KubeconfigGenerator, _ *inputs) time.Time {
			g.Name = "admin-kubeconfig"
			return start
		}, "", "metadata.name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g, in := g.DeepCopy(), in
			now := tc.change(g, &in)
			_, _, change, err := wanted(g, tenant(), in, now)
			if change != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("change %q, error %v", change, err)
			}
		})
	}
}

func TestSelects(t *testing.T) {
	labelled := func(value string) metav1.LabelSelector {
		return metav1.LabelSelector{MatchLabels: map[string]string{"tier": value}}
	}
	for name, tc := range map[string]struct {
		namespaces, tenants metav1.LabelSelector
		want                bool
		err                 bool
	}{
		"all":               {want: true},
		"tenant":            {tenants: labelled("gold"), want: true},
		"another tenant":    {tenants: labelled("tin")},
		"namespace":         {namespaces: labelled("prod"), want: true},
		"another namespace": {namespaces: labelled("test"), tenants: labelled("gold")},
		"nonsense":          {tenants: metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "?"}}}, err: true},
	} {
		g := &kamajiv1alpha1.KubeconfigGenerator{}
		g.Spec.NamespaceSelector, g.Spec.TenantControlPlaneSelector = tc.namespaces, tc.tenants
		if got, err := selects(g, tenant(), map[string]string{"tier": "prod"}); got != tc.want || (err != nil) != tc.err {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestTally(t *testing.T) {
	told := map[string]int{}
	c := &tally{changed: func(name string) { told[name]++ }}
	status := func(name string) kamajiv1alpha1.KubeconfigGeneratorStatus {
		s := kamajiv1alpha1.KubeconfigGeneratorStatus{}
		c.fill(name, &s)
		return s
	}
	c.set("ns/a", map[string]error{"g": nil, "h": errors.New("broken")})
	c.set("ns/b", map[string]error{"g": nil})
	c.set("ns/b", map[string]error{"g": nil})
	if s := status("g"); s.Resources != 2 || s.AvailableResources != 2 || told["g"] != 2 {
		t.Errorf("g: %+v, told %v", s, told)
	}
	want := kamajiv1alpha1.KubeconfigGeneratorStatus{Resources: 1, Errors: []kamajiv1alpha1.KubeconfigGeneratorError{{Resource: "ns/a", Message: "broken"}}}
	if diff := cmp.Diff(want, status("h")); diff != "" {
		t.Errorf("h (-want +got):\n%s", diff)
	}
	c.set("ns/a", map[string]error{"g": nil})
	c.forget("ns/b")
	if s := status("g"); s.Resources != 1 || len(c.tenants) != 1 || len(c.generators) != 1 {
		t.Errorf("g: %+v, kept %v %v", s, c.tenants, c.generators)
	}
}

func TestShort(t *testing.T) {
	long := strings.Repeat("x", 100)
	if short("a") != "a" || len(short(long)) != 63 || short(long) == short(long+"y") {
		t.Errorf("%q", short(long))
	}
}
