// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

func tcp(namespace, name string, spec kamajiv1alpha1.KamajiGatewaySpec) *kamajiv1alpha1.TenantControlPlane {
	spec.Name = "default"
	t := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	t.Spec.ControlPlane.KamajiGateway = &spec
	return t
}

func TestHostnames(t *testing.T) {
	for _, tc := range []struct {
		name       string
		template   string
		spec       kamajiv1alpha1.KamajiGatewaySpec
		own        string
		additional []string
		fatal      bool
	}{
		{name: "default", own: "c1.k8s.example.com"},
		{name: "given", spec: kamajiv1alpha1.KamajiGatewaySpec{Hostname: "API.Customer.Example."}, own: "api.customer.example"},
		{
			name: "additional, twice and the own one again",
			spec: kamajiv1alpha1.KamajiGatewaySpec{AdditionalHostnames: []string{"b.example", "A.example", "b.example.", "c1.k8s.example.com"}},
			own:  "c1.k8s.example.com", additional: []string{"a.example", "b.example"},
		},
		{name: "too long by the template", template: "{name}-{namespace}-" + strings.Repeat("x", 60) + ".{domain}", fatal: true},
		{name: "an address", spec: kamajiv1alpha1.KamajiGatewaySpec{Hostname: "10.0.0.1"}, fatal: true},
		{name: "a wrong additional one", spec: kamajiv1alpha1.KamajiGatewaySpec{AdditionalHostnames: []string{"*.example"}}, fatal: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			own, additional, err := hostnames(tcp("a", "c1", tc.spec), &v1alpha2.KamajiGateway{Spec: v1alpha2.KamajiGatewaySpec{Domain: "k8s.example.com", HostnameTemplate: tc.template}})
			if phase.IsFatal(err) != tc.fatal {
				t.Fatalf("got error %v, want fatal: %t", err, tc.fatal)
			}
			if own != tc.own || !slices.Equal(additional, tc.additional) {
				t.Errorf("got %q and %q, want %q and %q", own, additional, tc.own, tc.additional)
			}
		})
	}
}

func TestTemplates(t *testing.T) {
	for _, tc := range []struct {
		template, host string
		// of are the tenants for which the template makes the host.
		of []types.NamespacedName
	}{
		{"", "c1.k8s.example.com", []types.NamespacedName{{Name: "c1"}}},
		{"", "a.b.k8s.example.com", []types.NamespacedName{{Name: "a.b"}}},
		{"", "c1.k8s.example.org", nil},
		{"{name}.{namespace}.{domain}", "c1.a.k8s.example.com", []types.NamespacedName{{Namespace: "a", Name: "c1"}}},
		{"{name}.{namespace}.{domain}", "c1.k8s.example.com", nil},
		{"{name}-{namespace}.api.example.com", "a-b-c.api.example.com", []types.NamespacedName{{Namespace: "b-c", Name: "a"}, {Namespace: "c", Name: "a-b"}}},
		{"{namespace}-{name}.{domain}", "a-c1.k8s.example.com", []types.NamespacedName{{Namespace: "a", Name: "c1"}}},
		{"{name}.{name}.{domain}", "a.a.k8s.example.com", []types.NamespacedName{{Name: "a"}}},
		{"{name}.{name}.{domain}", "a.b.k8s.example.com", nil},
		{"k-{name}.{domain}", "c1.k8s.example.com", nil},
	} {
		gateway := &v1alpha2.KamajiGateway{Spec: v1alpha2.KamajiGatewaySpec{Domain: "k8s.example.com", HostnameTemplate: tc.template}}
		got := named(gateway, tc.host)
		if !slices.Equal(got, tc.of) {
			t.Errorf("%q makes %s of %v, want %v", tc.template, tc.host, got, tc.of)
		}
		for _, tenant := range got {
			if made := defaultHostname(gateway, tenant); made != tc.host {
				t.Errorf("%q makes %q of %v, want %q", tc.template, made, tenant, tc.host)
			}
		}
	}
}

func TestTenantAddress(t *testing.T) {
	for _, tc := range []struct {
		prefix      string
		first, last int32
		port        int32
		want        string
	}{
		{"", 10000, 29999, 10000, ""},
		{"10.255.0.0/16", 10000, 29999, 10000, "10.255.0.1"},
		{"10.255.0.0/16", 10000, 29999, 29999, "10.255.78.32"},
		{"10.255.0.0/16", 10000, 29999, 9999, ""},
		{"10.255.0.0/24", 20000, 20253, 20253, "10.255.0.254"},
		{"10.255.0.0/24", 20000, 20253, 20254, ""}, // the last address of the network
		{"10.255.0.0/24", 20000, 20253, 30000, ""}, // leased before the range was cut
		{"10.255.0.128/25", 20000, 20100, 20000, "10.255.0.129"},
		{"255.255.0.0/16", 1024, 65535, 65535, "255.255.252.0"},
		{"fd00:1::/64", 10000, 29999, 10000, "fd00:1::1"},
		{"fd00:1::/64", 1024, 65535, 65535, "fd00:1::fc00"},
	} {
		gateway := &v1alpha2.KamajiGateway{Spec: v1alpha2.KamajiGatewaySpec{PrivatePrefix: tc.prefix, TenantPorts: &v1alpha2.TenantPorts{PortRange: v1alpha2.PortRange{First: tc.first, Last: tc.last}}}}
		if got := tenantAddress(gateway, tc.port); got != tc.want {
			t.Errorf("%s, ports from %d, port %d: got %q, want %q", tc.prefix, tc.first, tc.port, got, tc.want)
		}
	}
}

func TestPublished(t *testing.T) {
	gateway := &v1alpha2.KamajiGateway{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v1alpha2.KamajiGatewaySpec{
		PublicAddress: "203.0.113.10", PrivateAddress: "10.0.0.5", Port: 6443, PrivatePrefix: "10.255.0.0/16",
	}}
	want := kamajiv1alpha1.KamajiGatewayStatus{
		Name: "default", Hostname: "c1.example", AdditionalHostnames: []string{"c2.example"}, PublicAddress: "203.0.113.10", PrivateAddress: "10.0.0.5",
		TenantAddress: "10.255.0.8", Port: 6443, TenantPort: 10007,
	}
	got := published(gateway, &kamajiv1alpha1.KamajiGatewaySpec{}, "c1.example", []string{"c2.example"}, 10007)
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("public and private (-want +got):\n%s", diff)
	}
	want.PublicAddress, want.AdditionalHostnames = "", nil
	got = published(gateway, &kamajiv1alpha1.KamajiGatewaySpec{Exposure: kamajiv1alpha1.GatewayExposurePrivate}, "c1.example", []string{"c2.example"}, 10007)
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("private (-want +got):\n%s", diff)
	}
}

// Whatever way two tenants come to the same name, an index key of one is among those that the other looks up.
func TestHostKeysMeet(t *testing.T) {
	gateway := &v1alpha2.KamajiGateway{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v1alpha2.KamajiGatewaySpec{Domain: "k8s.example.com"}}
	held := tcp("d", "x", kamajiv1alpha1.KamajiGatewaySpec{Hostname: "y.example"})
	held.Status.KamajiGateway = &kamajiv1alpha1.KamajiGatewayStatus{Name: "default", Hostname: "y.example", AdditionalHostnames: []string{"c1.k8s.example.com"}}
	for name, other := range map[string]*kamajiv1alpha1.TenantControlPlane{
		"by default":    tcp("b", "c1", kamajiv1alpha1.KamajiGatewaySpec{}),
		"by hostname":   tcp("b", "x", kamajiv1alpha1.KamajiGatewaySpec{Hostname: "C1.k8s.example.com."}),
		"by additional": tcp("b", "x", kamajiv1alpha1.KamajiGatewaySpec{AdditionalHostnames: []string{"c1.k8s.example.com"}}),
		"by status":     held,
	} {
		if !slices.ContainsFunc(keysOf(gateway, "c1.k8s.example.com"), func(key string) bool { return slices.Contains(hostKeys(other), key) }) {
			t.Errorf("%s: index keys %v meet none of %v", name, hostKeys(other), keysOf(gateway, "c1.k8s.example.com"))
		}
	}
	for name, other := range map[string]*kamajiv1alpha1.TenantControlPlane{
		"another name":    tcp("b", "c2", kamajiv1alpha1.KamajiGatewaySpec{}),
		"another gateway": {Spec: kamajiv1alpha1.TenantControlPlaneSpec{ControlPlane: kamajiv1alpha1.ControlPlane{KamajiGateway: &kamajiv1alpha1.KamajiGatewaySpec{Name: "other", Hostname: "c1.k8s.example.com"}}}},
		"no gateway":      {},
	} {
		if slices.ContainsFunc(keysOf(gateway, "c1.k8s.example.com"), func(key string) bool { return slices.Contains(hostKeys(other), key) }) {
			t.Errorf("%s: index keys %v meet %v", name, hostKeys(other), keysOf(gateway, "c1.k8s.example.com"))
		}
	}
}

// With the namespace in the template two tenants of one name don't meet.
func TestHostKeysWithNamespaces(t *testing.T) {
	gateway := &v1alpha2.KamajiGateway{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v1alpha2.KamajiGatewaySpec{
		Domain: "k8s.example.com", HostnameTemplate: "{name}.{namespace}.{domain}",
	}}
	keys := keysOf(gateway, "c1.a.k8s.example.com")
	for namespace, want := range map[string]bool{"a": true, "b": false} {
		other := tcp(namespace, "c1", kamajiv1alpha1.KamajiGatewaySpec{})
		if got := slices.ContainsFunc(keys, func(key string) bool { return slices.Contains(hostKeys(other), key) }); got != want {
			t.Errorf("the tenant in namespace %s: keys %v meet %v: %t, want %t", namespace, hostKeys(other), keys, got, want)
		}
	}
}

func TestFirst(t *testing.T) {
	const host = "c1.k8s.example.com"
	old := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	young := metav1.NewTime(old.Add(time.Hour))
	make := func(namespace string, created metav1.Time, holds bool) *kamajiv1alpha1.TenantControlPlane {
		tenant := tcp(namespace, "c1", kamajiv1alpha1.KamajiGatewaySpec{})
		tenant.CreationTimestamp = created
		if holds {
			tenant.Status.KamajiGateway = &kamajiv1alpha1.KamajiGatewayStatus{Name: "default", Hostname: host}
		}
		return tenant
	}
	for _, tc := range []struct {
		name    string
		tenants []*kamajiv1alpha1.TenantControlPlane
		want    string
	}{
		{"the holder, though younger", []*kamajiv1alpha1.TenantControlPlane{make("a", old, false), make("b", young, true)}, "b"},
		{"the older", []*kamajiv1alpha1.TenantControlPlane{make("a", young, false), make("b", old, false)}, "b"},
		{"the older of two holders", []*kamajiv1alpha1.TenantControlPlane{make("a", young, true), make("b", old, true)}, "b"},
		{"the first by name", []*kamajiv1alpha1.TenantControlPlane{make("b", old, false), make("a", old, false)}, "a"},
	} {
		if got := first(tc.tenants, "default", host).Namespace; got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestAddressesValid(t *testing.T) {
	old := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	young := metav1.NewTime(old.Add(time.Hour))
	gateway := func(name string, created metav1.Time, public, private string) v1alpha2.KamajiGateway {
		return v1alpha2.KamajiGateway{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: created}, Spec: v1alpha2.KamajiGatewaySpec{PublicAddress: public, PrivateAddress: private},
		}
	}
	all := []v1alpha2.KamajiGateway{
		gateway("a", old, "203.0.113.10", "10.0.0.5"), gateway("b", young, "203.0.113.11", "10.0.0.5"), gateway("c", young, "10.0.0.5", "10.0.0.6"),
		gateway("d", old, "203.0.113.12", "10.0.0.7"), gateway("e", old, "203.0.113.10", "10.0.0.8"),
		gateway("f", young, "203.0.113.13", "10.1.0.5"), gateway("g", young, "203.0.113.14", "10.2.0.5"), gateway("h", old, "203.0.113.15", "10.3.0.5"),
	}
	all[5].Spec.PrivatePrefix = "10.0.0.0/24"   // has the private address of others
	all[6].Spec.PrivatePrefix = "10.255.1.0/24" // lies in that of h
	all[7].Spec.PrivatePrefix = "10.255.0.0/16"
	got := map[string]bool{}
	for i := range all {
		err := addressesValid(&all[i], all)
		if err != nil && !phase.IsWait(err) {
			t.Errorf("%s: got %v, want a wait", all[i].Name, err)
		}
		got[all[i].Name] = err == nil
	}
	if diff := cmp.Diff(map[string]bool{"a": true, "b": false, "c": false, "d": true, "e": false, "f": false, "g": false, "h": true}, got); diff != "" {
		t.Errorf("valid (-want +got):\n%s", diff)
	}
}
