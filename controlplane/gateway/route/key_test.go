// SPDX-License-Identifier: Apache-2.0

package route_test

import (
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
	got := route.Routes(route.Tenant{
		Namespace: "ns", Name: "c1", Gateway: "default", Hostname: "c1.example.com", Port: 21034,
		AdditionalHostnames: []string{"api.customer.example", "c1.example.com"},
	})
	api, konnectivity := "ns/c1/kube-apiserver", "ns/c1/konnectivity-server"
	want := []route.Route{
		{Key: route.PortKey(21034, false), Backend: api},
		{Key: route.PortKey(21034, true), Backend: konnectivity},
		{Key: route.HostKey(route.Private, "c1.example.com", false), Backend: api},
		{Key: route.HostKey(route.Private, "c1.example.com", true), Backend: konnectivity},
		{Key: route.HostKey(route.Public, "api.customer.example", false), Backend: api},
		{Key: route.HostKey(route.Public, "c1.example.com", false), Backend: api},
		{Key: route.HostKey(route.Public, "c1.example.com", true), Backend: konnectivity},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
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
