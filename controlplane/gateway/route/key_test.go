// SPDX-License-Identifier: Apache-2.0

package route_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

func TestKeyNames(t *testing.T) {
	for name, key := range map[string]route.Key{
		"public|sni|c1.k8s.example.com":               route.HostKey(route.Public, "c1.k8s.example.com", false),
		"private|sni|c1.k8s.example.com|konnectivity": route.HostKey(route.Private, "c1.k8s.example.com", true),
		"private|port|21034":                          route.PortKey(21034, false),
		"private|port|21034|konnectivity":             route.PortKey(21034, true),
		"private|ip|10.255.0.7":                       route.AddressKey(netip.MustParseAddr("10.255.0.7"), false),
		"private|ip|fd00::7|konnectivity":             route.AddressKey(netip.MustParseAddr("fd00::7"), true),
	} {
		if got := key.String(); got != name {
			t.Errorf("name of %+v: got %q, want %q", key, got, name)
		}
		if got, err := route.ParseKey(name); err != nil || got != key {
			t.Errorf("parsing %q: got %+v, %v", name, got, err)
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	for _, name := range []string{
		"", "xds_cluster", "public", "public|sni", "public|sni|", "public|sni|C1.example.com", "public|sni|c1.example.com.", "public|sni|10.0.0.1",
		"public|port|6443", "private|port|0", "private|port|06443", "private|port|65536", "private|port|-1", "other|sni|c1.example.com",
		"public|sni|c1.example.com|other", "public|sni|c1.example.com|konnectivity|x", "private|any|c1",
		"public|ip|10.255.0.7", "private|ip|10.255.0.07", "private|ip|fd00:0::7", "private|ip|fe80::1%eth0", "private|ip|", "prefix|sni|c1.example.com",
	} {
		if key, err := route.ParseKey(name); err == nil {
			t.Errorf("parsing %q: got %+v, want an error", name, key)
		}
	}
}

func TestNormalizeHost(t *testing.T) {
	for in, want := range map[string]string{
		"c1.example.com": "c1.example.com", "C1.Example.COM": "c1.example.com", "c1.example.com.": "c1.example.com", "localhost": "localhost", "1.example": "1.example",
	} {
		if got, err := route.NormalizeHost(in); err != nil || got != want {
			t.Errorf("NormalizeHost(%q): got %q, %v, want %q", in, got, err, want)
		}
	}
	long := ""
	for range 64 {
		long += "a"
	}
	for _, in := range []string{"", ".", "a..b", "-a.b", "a-.b", "a_b", "a b", "ä.example", "a|b", "10.0.0.1", "fd00::1", "a\x00b", long, long[:63] + "." + long[:63] + "." + long[:63] + "." + long[:63]} {
		if got, err := route.NormalizeHost(in); err == nil {
			t.Errorf("NormalizeHost(%q): got %q, want an error", in, got)
		}
	}
}

func TestRoutes(t *testing.T) {
	public := route.Policy{Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}
	private := route.Policy{MaxConnections: 100}
	whole := route.Tenant{
		Namespace: "ns", Name: "c1", Gateway: "default", Hostname: "c1.example.com", Port: 21034,
		AdditionalHostnames: []string{"api.customer.example", "c1.example.com"},
		Address:             netip.MustParseAddr("10.255.0.7"), Public: public, Private: private,
	}
	api, konnectivity := "ns/c1/kube-apiserver", "ns/c1/konnectivity-server"
	onPrivate := []route.Route{
		{route.AddressKey(whole.Address, false), api, private},
		{route.AddressKey(whole.Address, true), konnectivity, private},
		{route.PortKey(21034, false), api, private},
		{route.PortKey(21034, true), konnectivity, private},
		{route.HostKey(route.Private, "c1.example.com", false), api, private},
		{route.HostKey(route.Private, "c1.example.com", true), konnectivity, private},
	}
	onPublic := []route.Route{
		{route.HostKey(route.Public, "api.customer.example", false), api, public},
		{route.HostKey(route.Public, "c1.example.com", false), api, public},
		{route.HostKey(route.Public, "c1.example.com", true), konnectivity, public},
	}
	same := cmp.Comparer(func(a, b route.Route) bool { return a.Equal(b) })
	if diff := cmp.Diff(append(slices.Clone(onPrivate), onPublic...), route.Routes(whole), same); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	hidden := whole
	hidden.PrivateOnly = true
	if diff := cmp.Diff(onPrivate, route.Routes(hidden), same); diff != "" {
		t.Errorf("routes of a private tenant (-want +got):\n%s", diff)
	}
	bare := whole
	bare.Address = netip.Addr{}
	if diff := cmp.Diff(append(slices.Clone(onPrivate[2:]), onPublic...), route.Routes(bare), same); diff != "" {
		t.Errorf("routes of a tenant without an address (-want +got):\n%s", diff)
	}
	closed := whole
	closed.Port = 0
	if diff := cmp.Diff(slices.Concat(onPrivate[:2], onPrivate[4:], onPublic), route.Routes(closed), same); diff != "" {
		t.Errorf("routes of a tenant whose port is closed (-want +got):\n%s", diff)
	}
}

// Only a name tells the activator which tenant a connection is for.
func TestAwaitedIsForNamesOnly(t *testing.T) {
	tenant := route.Tenant{
		Namespace: "ns", Name: "c1", Hostname: "c1.example.com", AdditionalHostnames: []string{"api.customer.example"}, Port: 21034,
		Address: netip.MustParseAddr("10.255.0.7"), Wake: true,
	}
	const awaited = "ns/c1/kube-apiserver-or-activator"
	for _, r := range route.Routes(tenant) {
		want := r.Key.Host != "" && !r.Key.Konnectivity
		if got := r.Backend == awaited; got != want {
			t.Errorf("%s leads to %s", r.Key, r.Backend)
		}
	}
	if !slices.Contains(tenant.Groups(), route.Awaited) || route.TenantOf(awaited) != "ns/c1" {
		t.Errorf("groups %v, tenant %q", tenant.Groups(), route.TenantOf(awaited))
	}
	tenant.Wake = false
	for _, r := range route.Routes(tenant) {
		if r.Backend == awaited {
			t.Errorf("%s of a tenant that no connection wakes leads to the activator", r.Key)
		}
	}
}

func TestAwaitedEndpoints(t *testing.T) {
	at := func(address string, draining bool) route.Endpoint {
		return route.Endpoint{Address: netip.MustParseAddr(address), Port: 6443, Draining: draining}
	}
	ready, former, activator := at("10.244.0.7", false), at("10.244.0.1", true), at("10.244.9.1", false)
	for name, tc := range map[string]struct{ own, want []route.Endpoint }{
		"asleep":                      {nil, []route.Endpoint{activator}},
		"falling asleep":              {[]route.Endpoint{former}, []route.Endpoint{former, activator}},
		"awake":                       {[]route.Endpoint{ready}, []route.Endpoint{ready}},
		"awake, with a former server": {[]route.Endpoint{former, ready}, []route.Endpoint{former, ready}},
	} {
		b := route.Backends{route.PortAPIServer: tc.own}
		if got := b.Group(route.Awaited, []route.Endpoint{activator}); !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
		if got := b.Group(route.PortAPIServer, []route.Endpoint{activator}); !slices.Equal(got, tc.own) {
			t.Errorf("%s: the API server's are %v", name, got)
		}
	}
}

func TestSortSources(t *testing.T) {
	var in []netip.Prefix
	for _, p := range []string{"192.0.2.77/24", "10.1.0.0/16", "fd00::/8", "10.0.0.0/8", "192.0.2.0/24", "fd00:1::/32", "10.255.255.255/32"} {
		in = append(in, netip.MustParsePrefix(p))
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("fd00::/8")}
	if got := route.SortSources(in); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := route.SortSources(nil); len(got) != 0 {
		t.Errorf("no networks: got %v", got)
	}
}

func TestIdentity(t *testing.T) {
	for id, want := range map[string]string{"default/node-1": "default", "default": "default"} {
		if got, err := route.GatewayOf(id); err != nil || got != want {
			t.Errorf("GatewayOf(%q): got %q, %v, want %q", id, got, err, want)
		}
	}
	for _, id := range []string{"", "/node-1"} {
		if got, err := route.GatewayOf(id); err == nil {
			t.Errorf("GatewayOf(%q): got %q, want an error", id, got)
		}
	}
}
