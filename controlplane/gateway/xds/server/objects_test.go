// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

var pure = []cmp.Option{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}

func TestGatewayOf(t *testing.T) {
	spec := v1alpha2.KamajiGatewaySpec{
		PublicAddress: "203.0.113.10", PrivateAddress: "10.0.0.5", Port: 6443, PrivatePrefix: "10.255.0.0/16",
		PublicPolicy:  &kamajiv1alpha1.GatewayPolicy{AllowedSources: []kamajiv1alpha1.SourceCIDR{"203.0.113.0/24", "198.51.100.0/24"}, MaxConnections: ptr.To[int32](7)},
		Limits:        &v1alpha2.GatewayLimits{Connections: ptr.To[int32](5000), PendingConnections: ptr.To[int32](100), ConnectionAgeSeconds: ptr.To[int32](3600)},
		ProxyProtocol: &v1alpha2.GatewayProxyProtocol{PublicSources: []kamajiv1alpha1.SourceCIDR{"192.0.2.250/31"}, PrivateSources: []kamajiv1alpha1.SourceCIDR{"10.0.0.250/32"}},
		TenantPorts:   &v1alpha2.TenantPorts{PortRange: v1alpha2.PortRange{First: 20000, Last: 29999}, Listen: v1alpha2.TenantPortListenWithoutAddress},
	}
	got, err := gatewayOf(&v1alpha2.KamajiGateway{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: spec})
	must(t, err)
	want := route.Gateway{
		Name: "default", PublicAddress: ip("203.0.113.10"), PrivateAddress: ip("10.0.0.5"), Port: 6443, PrivatePrefix: netip.MustParsePrefix("10.255.0.0/16"),
		AddressesOnly: true,
		Public:        route.Policy{Sources: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24")}, MaxConnections: 7},
		Limits:        route.Limits{Connections: 5000, PendingConnections: 100, ConnectionAge: time.Hour},
		PublicProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.250/31")}, PrivateProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.250/32")},
	}
	if diff := cmp.Diff(want, got, pure...); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, change := range map[string]func(*v1alpha2.KamajiGatewaySpec){
		"no public address":  func(s *v1alpha2.KamajiGatewaySpec) { s.PublicAddress = "" },
		"no private address": func(s *v1alpha2.KamajiGatewaySpec) { s.PrivateAddress = "gw.example.com" },
		"a prefix of nobody": func(s *v1alpha2.KamajiGatewaySpec) { s.PrivatePrefix = "10.255.0.0" },
		"a source of nobody": func(s *v1alpha2.KamajiGatewaySpec) {
			s.PrivatePolicy = &kamajiv1alpha1.GatewayPolicy{AllowedSources: []kamajiv1alpha1.SourceCIDR{"10.0.0.0/8", "office"}}
		},
		"a load balancer of nobody": func(s *v1alpha2.KamajiGatewaySpec) {
			s.ProxyProtocol = &v1alpha2.GatewayProxyProtocol{PublicSources: []kamajiv1alpha1.SourceCIDR{"edge"}}
		},
	} {
		bad := *spec.DeepCopy()
		change(&bad)
		if got, err := gatewayOf(&v1alpha2.KamajiGateway{Spec: bad}); err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
	}
}

func TestRouted(t *testing.T) {
	tcp := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "c1"}}
	tcp.Spec.ControlPlane.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{
		Name: "default", PrivatePolicy: &kamajiv1alpha1.GatewayPolicy{AllowedSources: []kamajiv1alpha1.SourceCIDR{"10.20.0.0/16"}},
	}
	tcp.Status.KamajiGateway = &kamajiv1alpha1.KamajiGatewayStatus{
		Name: "default", Hostname: "C1.example.com.", AdditionalHostnames: []string{"api.customer.example"}, PublicAddress: "203.0.113.10", PrivateAddress: "10.0.0.5",
		TenantAddress: "10.255.0.7", Port: 6443, TenantPort: 20001,
	}
	want := route.Tenant{
		Namespace: "a", Name: "c1", Gateway: "default", Hostname: "c1.example.com", AdditionalHostnames: []string{"api.customer.example"}, Port: 20001,
		Address: ip("10.255.0.7"), Private: route.Policy{Sources: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}},
	}
	got, ok, err := routed(tcp)
	if diff := cmp.Diff(want, got, pure...); diff != "" || !ok || err != nil {
		t.Errorf("%t, %v (-want +got):\n%s", ok, err, diff)
	}
	hidden := tcp.DeepCopy()
	hidden.Status.KamajiGateway.PublicAddress = ""
	if got, ok, err := routed(hidden); !ok || err != nil || !got.PrivateOnly {
		t.Errorf("without a public address: got %+v, %t, %v, want a private tenant", got, ok, err)
	}
	for name, tc := range map[string]struct {
		change func(*kamajiv1alpha1.TenantControlPlane)
		fails  bool
	}{
		"no address yet":    {func(t *kamajiv1alpha1.TenantControlPlane) { t.Status.KamajiGateway = nil }, false},
		"no port":           {func(t *kamajiv1alpha1.TenantControlPlane) { t.Status.KamajiGateway.TenantPort = 0 }, false},
		"a name that isn't": {func(t *kamajiv1alpha1.TenantControlPlane) { t.Status.KamajiGateway.Hostname = "10.0.0.1" }, true},
		"no such address":   {func(t *kamajiv1alpha1.TenantControlPlane) { t.Status.KamajiGateway.TenantAddress = "10.255" }, true},
		// Leaving the list out would let everybody in.
		"no such network": {func(t *kamajiv1alpha1.TenantControlPlane) {
			t.Spec.ControlPlane.KamajiGateway.PrivatePolicy.AllowedSources[0] = "10.20.0.0"
		}, true},
	} {
		bad := tcp.DeepCopy()
		tc.change(bad)
		if got, ok, err := routed(bad); ok || (err != nil) != tc.fails {
			t.Errorf("%s: got %+v, %t, %v, want no routes (an error: %t)", name, got, ok, err, tc.fails)
		}
	}
}
