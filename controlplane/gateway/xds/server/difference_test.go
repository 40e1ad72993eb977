// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/golden"
)

// everything is everything that data planes of a gateway are served, by "type name", as it is sent.
func everything(t *testing.T, s *State) map[string][]byte {
	t.Helper()
	r := s.gateways["default"]
	must(t, r.access.ask())
	out := map[string][]byte{}
	for kind, table := range map[string]*table{"LDS": r.listeners, "CDS": r.clusters, "EDS": r.endpoints, "ECDS": r.access.table} {
		for name, resource := range table.resources {
			out[kind+" "+name] = resource.GetResource().GetValue()
		}
	}
	return out
}

// difference says what came, changed and went between two states, a line each, sorted.
func difference(before, after map[string][]byte) []string {
	var out []string
	for name, data := range after {
		if old, ok := before[name]; !ok {
			out = append(out, "+ "+name)
		} else if string(old) != string(data) {
			out = append(out, "~ "+name)
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			out = append(out, "- "+name)
		}
	}
	slices.Sort(out)
	return out
}

// listenersHash is the hash of the listeners' bytes, by which a data plane decides whether to drain connections.
func listenersHash(served map[string][]byte) string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(served)) {
		if strings.HasPrefix(name, "LDS ") {
			sum.Write(served[name])
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func TestATenantIsServedByItsOwnResourcesOnly(t *testing.T) {
	s := NewState()
	gateway := testGateway
	gateway.PrivatePrefix = netip.MustParsePrefix("10.255.0.0/16")
	must(t, s.SetGateway(gateway))
	set(t, s, testTenant("ns", "first", 10000), apiserver("10.244.0.1"))
	before := everything(t, s)
	var report strings.Builder
	step := func(what string, change func()) {
		was := everything(t, s)
		change()
		is := everything(t, s)
		fmt.Fprintf(&report, "%s\n", what)
		for _, line := range difference(was, is) {
			fmt.Fprintf(&report, "  %s\n", line)
		}
		if got, want := listenersHash(is), listenersHash(before); got != want {
			t.Errorf("%s: the listeners' bytes have hash %s, before %s", what, got, want)
		}
	}
	tenant := testTenant("ns", "second", 10001)
	step("a tenant comes", func() { set(t, s, tenant, apiserver("10.244.0.2")) })
	step("an API server more", func() { set(t, s, tenant, apiserver("10.244.0.2", "10.244.0.3")) })
	tenant.AdditionalHostnames = []string{"api.customer.example"}
	step("another name", func() { set(t, s, tenant, apiserver("10.244.0.2", "10.244.0.3")) })
	tenant.Public.Sources = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	step("customers of one network only", func() { set(t, s, tenant, apiserver("10.244.0.2", "10.244.0.3")) })
	tenant.Address = ip("10.255.0.9")
	tenant.Private.MaxConnections = 100
	step("an address and a limit", func() { set(t, s, tenant, apiserver("10.244.0.2", "10.244.0.3")) })
	step("nothing", func() { set(t, s, tenant, apiserver("10.244.0.2", "10.244.0.3")) })
	tenant.Wake = true
	step("connections may wake it", func() { set(t, s, tenant, apiserver("10.244.0.2", "10.244.0.3")) })
	step("an activator while it is awake", func() { must(t, s.SetActivator(activators("10.244.9.1"))) })
	step("it sleeps", func() { set(t, s, tenant, nil) })
	step("an activator more", func() { must(t, s.SetActivator(activators("10.244.9.2", "10.244.9.1"))) })
	step("the same activators", func() { must(t, s.SetActivator(activators("10.244.9.1", "10.244.9.2"))) })
	step("it wakes", func() { set(t, s, tenant, apiserver("10.244.0.2")) })
	tenant.Wake = false
	step("connections may no longer wake it", func() { set(t, s, tenant, apiserver("10.244.0.2")) })
	step("its API server is replaced", func() { set(t, s, tenant, apiserver("10.244.0.4")) })
	tenant.Wake = true
	step("they may again", func() { set(t, s, tenant, apiserver("10.244.0.4")) })
	step("the tenant goes", func() { must(t, s.RemoveTenant("ns", "second")) })
	golden.Text(t, filepath.Join("testdata", "difference.golden.txt"), report.String())
	if diff := difference(before, everything(t, s)); len(diff) > 0 {
		t.Errorf("after the tenant is gone: %v", diff)
	}
}

// What a data plane is sent when a tenant comes, whole.
func TestWhatANewTenantAdds(t *testing.T) {
	s := NewState()
	must(t, s.SetGateway(testGateway))
	before := everything(t, s)
	tenant := testTenant("ns", "c1", 10000)
	tenant.Private.Sources = []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}
	set(t, s, tenant, apiserver("10.244.0.2"))
	after := everything(t, s)
	var added []json.RawMessage
	r := s.gateways["default"]
	for _, line := range difference(before, after) {
		_, name, _ := strings.Cut(strings.TrimLeft(line, "+~ "), " ")
		for _, table := range []*table{r.clusters, r.endpoints, r.access.table} {
			if resource, ok := table.resources[name]; ok {
				message, err := resource.GetResource().UnmarshalNew()
				must(t, err)
				added = append(added, canonical(t, message))
			}
		}
	}
	out, err := json.MarshalIndent(added, "", "  ")
	must(t, err)
	golden.Text(t, filepath.Join("testdata", "added.golden.json"), string(out)+"\n")
}

// canonical is a resource as JSON without protojson's wilful variations.
func canonical(t *testing.T, resource proto.Message) json.RawMessage {
	t.Helper()
	data, err := protojson.Marshal(resource)
	must(t, err)
	var value any
	must(t, json.Unmarshal(data, &value))
	out, err := json.Marshal(value)
	must(t, err)
	return out
}

// A list is never behind its route: where a route is served, its restriction is, too.
func TestNoRouteIsServedWithoutItsRestriction(t *testing.T) {
	s := NewState()
	must(t, s.SetGateway(testGateway))
	only := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	tenant := testTenant("ns", "c1", 10000)
	tenant.Public.Sources, tenant.Private.Sources = only, only
	set(t, s, tenant, nil)
	r := s.gateways["default"]
	for name := range r.clusters.resources {
		key, err := route.ParseKey(name)
		must(t, err)
		if list, entry := xds.AccessListOf(key); !slices.Equal(r.access.sources[list][entry], only) {
			t.Errorf("%s is open to %v", name, r.access.sources[list][entry])
		}
	}
	// The name goes to another tenant, which has no restriction.
	other := testTenant("ns", "c2", 10001)
	other.Hostname = tenant.Hostname
	set(t, s, other, nil)
	must(t, s.RemoveTenant("ns", "c1"))
	for list, entries := range r.access.sources {
		if len(entries) > 0 {
			t.Errorf("%s still restricts %v", list, entries)
		}
	}
}
