// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

var testGateway = route.Gateway{Name: "default", PublicAddress: ip("203.0.113.10"), PrivateAddress: ip("10.0.0.5"), Port: 6443}

func testTenant(namespace, name string, port uint16) route.Tenant {
	return route.Tenant{Namespace: namespace, Name: name, Gateway: "default", Hostname: name + ".example.com", Port: port}
}

func apiserver(addresses ...string) route.Backends {
	b := route.Backends{}
	for _, a := range addresses {
		b[route.PortAPIServer] = append(b[route.PortAPIServer], route.Endpoint{Address: ip(a), Port: 6443})
	}
	return b
}

// activators are endpoints of the activator.
func activators(addresses ...string) []route.Endpoint {
	var out []route.Endpoint
	for _, a := range addresses {
		out = append(out, route.Endpoint{Address: ip(a), Port: 18001})
	}
	return out
}

// served is the service_name of each cluster of a gateway.
func served(s *State, gateway string) map[string]string {
	out := map[string]string{}
	for name, r := range s.gateways[gateway].clusters.resources {
		cluster := &clusterv3.Cluster{}
		if err := r.GetResource().UnmarshalTo(cluster); err != nil {
			panic(err)
		}
		out[name] = cluster.GetEdsClusterConfig().GetServiceName()
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func set(t testing.TB, s *State, tenant route.Tenant, b route.Backends) []string {
	t.Helper()
	refused, err := s.SetTenant(tenant, b)
	must(t, err)
	return refused
}

func TestTenantComesMovesAndGoes(t *testing.T) {
	s := NewState()
	must(t, s.SetGateway(testGateway))
	c1 := testTenant("a", "c1", 20001)
	set(t, s, c1, apiserver("10.244.0.1"))
	if got := len(served(s, "default")); got != 6 {
		t.Errorf("clusters of one tenant: got %d, want 6", got)
	}
	c1.Hostname = "new.example.com"
	set(t, s, c1, apiserver("10.244.0.1"))
	names := slices.Sorted(maps.Keys(served(s, "default")))
	want := []string{
		"private|port|20001", "private|port|20001|konnectivity", "private|sni|new.example.com", "private|sni|new.example.com|konnectivity",
		"public|sni|new.example.com", "public|sni|new.example.com|konnectivity",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("after a change of host name (-want +got):\n%s", diff)
	}
	c1.Gateway = "other"
	set(t, s, c1, apiserver("10.244.0.1"))
	if got := served(s, "default"); len(got) != 0 {
		t.Errorf("on the former gateway: got %v, want nothing", got)
	}
	if got := len(served(s, "other")); got != 6 {
		t.Errorf("on the new gateway: got %d clusters, want 6", got)
	}
	must(t, s.RemoveTenant("a", "c1"))
	must(t, s.RemoveTenant("a", "c1"))
	if got := served(s, "other"); len(got) != 0 {
		t.Errorf("after removal: got %v, want nothing", got)
	}
	if got := len(s.gateways["other"].endpoints.resources); got != 0 {
		t.Errorf("after removal: got %d endpoint assignments, want none", got)
	}
}

func TestSecondTenantWaitsForName(t *testing.T) {
	s := NewState()
	a, b := testTenant("a", "c1", 20001), testTenant("b", "c1", 20002)
	set(t, s, a, nil)
	refused := set(t, s, b, nil)
	want := []string{"private|sni|c1.example.com", "private|sni|c1.example.com|konnectivity", "public|sni|c1.example.com", "public|sni|c1.example.com|konnectivity"}
	if diff := cmp.Diff(want, refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	if got := served(s, "default")["public|sni|c1.example.com"]; got != "a/c1/kube-apiserver" {
		t.Errorf("while both want it: the name leads to %q", got)
	}
	must(t, s.RemoveTenant("a", "c1"))
	if got := served(s, "default")["public|sni|c1.example.com"]; got != "b/c1/kube-apiserver" {
		t.Errorf("after the first is gone: the name leads to %q", got)
	}
	must(t, s.RemoveTenant("b", "c1"))
	if r := s.gateways["default"]; len(r.clusters.resources)+len(r.holders)+len(r.waiting) != 0 {
		t.Errorf("after both are gone: %d clusters, %d held, %d waited for", len(r.clusters.resources), len(r.holders), len(r.waiting))
	}
}

func TestBackends(t *testing.T) {
	slice := discoveryv1.EndpointSlice{
		Ports: []discoveryv1.EndpointPort{
			{Name: ptr.To("kube-apiserver"), Port: ptr.To[int32](6443)}, {Name: ptr.To("metrics"), Port: ptr.To[int32](9090)},
			{Name: ptr.To("konnectivity-server"), Port: ptr.To[int32](8132)}, {Name: ptr.To("kube-apiserver")},
		},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.244.0.3"}},
			{Addresses: []string{"10.244.0.2"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(true), Terminating: ptr.To(true)}},
			{Addresses: []string{"10.244.0.9"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(false), Terminating: ptr.To(true)}},
			{Addresses: []string{"10.244.0.8"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(false)}},
			{Addresses: []string{"pod.example"}},
		},
	}
	got := Backends([]discoveryv1.EndpointSlice{slice, slice})
	want := route.Backends{
		"kube-apiserver":      {{Address: ip("10.244.0.2"), Port: 6443, Draining: true}, {Address: ip("10.244.0.3"), Port: 6443}},
		"konnectivity-server": {{Address: ip("10.244.0.2"), Port: 8132, Draining: true}, {Address: ip("10.244.0.3"), Port: 8132}},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("backends (-want +got):\n%s", diff)
	}
}

func TestEndpointsAreSharedByRoutes(t *testing.T) {
	s := NewState()
	set(t, s, testTenant("a", "c1", 20001), apiserver("10.244.0.1", "10.244.0.2"))
	assignments := map[string]*endpointv3.ClusterLoadAssignment{}
	for name, r := range s.gateways["default"].endpoints.resources {
		assignments[name] = &endpointv3.ClusterLoadAssignment{}
		must(t, r.GetResource().UnmarshalTo(assignments[name]))
	}
	if len(assignments) != 2 {
		t.Fatalf("got %d assignments, want one for each port of the Service", len(assignments))
	}
	if got := len(assignments["a/c1/kube-apiserver"].GetEndpoints()[0].GetLbEndpoints()); got != 2 {
		t.Errorf("apiserver: got %d endpoints, want 2", got)
	}
	if got := assignments["a/c1/konnectivity-server"].GetEndpoints(); len(got) != 0 {
		t.Errorf("konnectivity-server: got %v, want none", got)
	}
}

// The gateway's policy counts for tenants that have none, field by field, also when it changes later.
func TestPolicies(t *testing.T) {
	s := NewState()
	office, home := netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.7/32")
	own := testTenant("a", "own", 20001)
	own.Public = route.Policy{Sources: []netip.Prefix{home}}
	set(t, s, own, nil)
	set(t, s, testTenant("a", "none", 20002), nil)
	g := testGateway
	g.Public = route.Policy{Sources: []netip.Prefix{office}, MaxConnections: 10}
	policy := func(cluster string) route.Policy {
		t.Helper()
		c := &clusterv3.Cluster{}
		must(t, s.gateways["default"].clusters.resources[cluster].GetResource().UnmarshalTo(c))
		p, err := xds.PolicyOf(c)
		must(t, err)
		return p
	}
	check := func(when string, want map[string]route.Policy) {
		t.Helper()
		for cluster, p := range want {
			if got := policy(cluster); !got.Equal(p) {
				t.Errorf("%s: policy of %s: got %+v, want %+v", when, cluster, got, p)
			}
		}
	}
	unlimited := route.Policy{MaxConnections: route.DefaultMaxConnections}
	must(t, s.SetGateway(testGateway))
	check("before", map[string]route.Policy{
		"public|sni|own.example.com":  {Sources: own.Public.Sources, MaxConnections: route.DefaultMaxConnections},
		"public|sni|none.example.com": unlimited,
	})
	must(t, s.SetGateway(g))
	after := map[string]route.Policy{
		"public|sni|own.example.com":   {Sources: own.Public.Sources, MaxConnections: 10},
		"public|sni|none.example.com":  g.Public,
		"private|sni|none.example.com": unlimited,
		"private|port|20002":           unlimited,
	}
	check("after", after)
	set(t, s, testTenant("a", "none", 20002), apiserver("10.244.0.1"))
	check("after a change of the tenant", after)
	g.Limits, g.PublicProxies = route.Limits{Connections: 5000}, []netip.Prefix{home}
	must(t, s.SetGateway(g))
	for name, want := range map[string]xds.Protection{"public": {Limits: g.Limits, Proxies: g.PublicProxies}, "private": {Limits: g.Limits}} {
		l := &listenerv3.Listener{}
		must(t, s.gateways["default"].listeners.resources[name].GetResource().UnmarshalTo(l))
		if got, err := xds.ProtectionOf(l); err != nil || got.Limits != want.Limits || !slices.Equal(got.Proxies, want.Proxies) {
			t.Errorf("listener %s says %+v, %v, want %+v", name, got, err, want)
		}
	}
	must(t, s.SetGateway(testGateway))
	check("taken back", map[string]route.Policy{"public|sni|none.example.com": unlimited})
}

// A gateway that serves addresses instead of ports keeps the ports of tenants that have nothing else, and takes it back.
func TestClosedPorts(t *testing.T) {
	s := NewState()
	both, bare := testTenant("a", "both", 20001), testTenant("a", "bare", 20002)
	both.Address = ip("10.255.0.7")
	set(t, s, bare, nil)
	set(t, s, both, nil)
	check := func(when string, port, address, bare bool) {
		t.Helper()
		clusters := s.gateways["default"].clusters.resources
		for name, want := range map[string]bool{
			"private|port|20001": port, "private|port|20001|konnectivity": port, "private|ip|10.255.0.7": address, "private|port|20002": bare,
		} {
			if (clusters[name] != nil) != want {
				t.Errorf("%s: %s is served: %t, want %t", when, name, !want, want)
			}
		}
	}
	open, closed := testGateway, testGateway
	closed.AddressesOnly = true
	must(t, s.SetGateway(closed))
	check("closed", false, true, true)
	set(t, s, both, apiserver("10.244.0.1"))
	check("closed, after a change of the tenant", false, true, true)
	moved := both
	moved.Address = netip.Addr{}
	set(t, s, moved, nil)
	check("closed, after the address has gone", true, false, true)
	set(t, s, both, nil)
	check("closed again", false, true, true)
	must(t, s.SetGateway(open))
	check("open", true, true, true)
}

// Nothing that tenants do changes a byte of a listener, also in the eyes of another replica.
func TestListenersStay(t *testing.T) {
	versions := func(s *State) map[string]string {
		out := map[string]string{}
		for name, r := range s.gateways["default"].listeners.resources {
			out[name] = r.GetVersion()
		}
		return out
	}
	s, other := NewState(), NewState()
	g := testGateway
	g.PrivatePrefix = netip.MustParsePrefix("10.255.0.0/16")
	must(t, s.SetGateway(g))
	want := versions(s)
	if len(want) != 3 {
		t.Fatalf("got listeners %v, want three", want)
	}
	for i := range 100 {
		tenant := testTenant("a", fmt.Sprintf("c%d", i), uint16(20000+i))
		tenant.Private.Sources = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		set(t, s, tenant, apiserver("10.244.0.1"))
	}
	g.Public.MaxConnections = 7
	must(t, s.SetGateway(g))
	must(t, s.RemoveTenant("a", "c7"))
	must(t, other.SetGateway(g))
	for name, got := range map[string]map[string]string{"with tenants": versions(s), "another replica": versions(other)} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
