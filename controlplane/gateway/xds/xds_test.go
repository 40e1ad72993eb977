// SPDX-License-Identifier: Apache-2.0

package xds_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds/xdstest"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/golden"
)

var gateway = route.Gateway{
	Name: "default", PublicAddress: netip.MustParseAddr("203.0.113.10"), PrivateAddress: netip.MustParseAddr("10.0.0.5"), Port: 6443,
	PrivatePrefix: netip.MustParsePrefix("10.255.0.0/16"),
}

var tenant = route.Tenant{
	Namespace: "customers", Name: "c1", Gateway: "default", Hostname: "c1.k8s.example.com", Port: 21034, AdditionalHostnames: []string{"api.customer.example"},
	Address: netip.MustParseAddr("10.255.0.7"),
	Public:  route.Policy{Sources: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/32")}, MaxConnections: 500},
}

// resource is any message with the generated validation that Envoy enforces.
type resource interface {
	proto.Message
	ValidateAll() error
}

func resources(t *testing.T) []resource {
	t.Helper()
	listeners, err := xds.Listeners(gateway)
	if err != nil {
		t.Fatal(err)
	}
	var out []resource
	for _, l := range listeners {
		out = append(out, l)
	}
	for _, r := range route.Routes(tenant) {
		out = append(out, xds.Cluster(r))
	}
	for _, list := range xds.AccessLists() {
		out = append(out, access(t, list, tenant))
	}
	return append(out,
		xds.Assignment(route.BackendName("customers", "c1", route.PortAPIServer), []route.Endpoint{
			{Address: netip.MustParseAddr("10.244.1.7"), Port: 6443},
			{Address: netip.MustParseAddr("10.244.2.3"), Port: 6443, Draining: true},
		}),
		xds.Assignment(route.BackendName("customers", "c1", route.PortKonnectivity), nil),
	)
}

// access is a list with the restricted ones of some tenants.
func access(t *testing.T, list xds.AccessList, tenants ...route.Tenant) *corev3.TypedExtensionConfig {
	t.Helper()
	sources := map[string][]netip.Prefix{}
	for _, tenant := range tenants {
		for _, r := range route.Routes(tenant) {
			if of, entry := xds.AccessListOf(r.Key); of == list && len(r.Policy.Sources) > 0 {
				sources[entry] = r.Policy.Sources
			}
		}
	}
	config, err := xds.Access(list, sources)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func TestResourcesAreValid(t *testing.T) {
	for _, r := range resources(t) {
		if err := xdstest.Validate(string(r.ProtoReflect().Descriptor().Name()), r); err != nil {
			t.Error(err)
		}
	}
}

// A tenant must not change listeners, and a restarted manager must not either: connections would be drained.
func TestListenersAreIdenticalBytes(t *testing.T) {
	encode := func() (all []byte) {
		listeners, err := xds.Listeners(gateway)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range listeners {
			data, err := proto.MarshalOptions{Deterministic: true}.Marshal(l)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, data...)
		}
		return all
	}
	if a, b := encode(), encode(); !bytes.Equal(a, b) {
		t.Error("listeners of one gateway differ between two builds")
	}
}

// What the control plane says of a policy is what a data plane reads.
func TestPolicyOf(t *testing.T) {
	for _, r := range route.Routes(tenant) {
		want := r.Policy
		want.MaxConnections = cmp.Or(want.MaxConnections, route.DefaultMaxConnections)
		if got, err := xds.PolicyOf(xds.Cluster(r)); err != nil || !got.Equal(want) {
			t.Errorf("policy of %s: got %+v, %v, want %+v", r.Key, got, err, want)
		}
	}
	bad := xds.Cluster(route.Route{Key: route.PortKey(1, false), Policy: tenant.Public})
	bad.Metadata.FilterMetadata[xds.PolicyMetadata].Fields["sources"].GetListValue().Values[1] = structpb.NewStringValue("everywhere")
	if got, err := xds.PolicyOf(bad); err == nil {
		t.Errorf("a network that is none: got %+v, want an error", got)
	}
	delete(bad.GetMetadata().GetFilterMetadata()[xds.PolicyMetadata].GetFields(), "sources")
	if got, err := xds.PolicyOf(bad); err == nil {
		t.Errorf("metadata without networks: got %+v, want an error", got)
	}
}

// What the control plane says of limits and load balancers is what a data plane reads, and a gateway without leaves no trace of them.
func TestProtectionOf(t *testing.T) {
	g := gateway
	g.Limits = route.Limits{Connections: 5000, PendingConnections: 100, ConnectionAge: time.Hour}
	g.PublicProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.250/31")}
	g.PrivateProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/64")}
	listeners, err := xds.Listeners(g)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range listeners {
		if err := l.ValidateAll(); err != nil {
			t.Errorf("listener %s: %v", l.GetName(), err)
		}
		want := xds.Protection{Limits: g.Limits, Proxies: g.PrivateProxies}
		if l.GetName() == string(route.Public) {
			want.Proxies = g.PublicProxies
		}
		if got, err := xds.ProtectionOf(l); err != nil || got.Limits != want.Limits || !slices.Equal(got.Proxies, want.Proxies) {
			t.Errorf("listener %s: got %+v, %v, want %+v", l.GetName(), got, err, want)
		}
	}
	bad := listeners[0]
	bad.Metadata.FilterMetadata[xds.PolicyMetadata].Fields["proxies"].GetListValue().Values[0] = structpb.NewStringValue("edge")
	if got, err := xds.ProtectionOf(bad); err == nil {
		t.Errorf("a network that is none: got %+v, want an error", got)
	}
	listeners, err = xds.Listeners(gateway)
	if err != nil {
		t.Fatal(err)
	}
	if listeners[0].GetMetadata() != nil {
		t.Error("a gateway without limits has metadata")
	}
}

func TestPrefixOf(t *testing.T) {
	listeners, err := xds.Listeners(gateway)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := xds.PrefixOf(listeners[2]); err != nil || got != gateway.PrivatePrefix {
		t.Errorf("prefix of listener %s: got %s, %v, want %s", listeners[2].GetName(), got, err, gateway.PrivatePrefix)
	}
	if got, err := xds.PrefixOf(listeners[1]); err == nil {
		t.Errorf("prefix of listener %s: got %s, want an error", listeners[1].GetName(), got)
	}
}

func TestGolden(t *testing.T) {
	var got bytes.Buffer
	for _, r := range resources(t) {
		data, err := protojson.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		// protojson varies its white space on purpose.
		if err := json.Indent(&got, data, "", "  "); err != nil {
			t.Fatal(err)
		}
		got.WriteString("\n")
	}
	golden.Text(t, filepath.Join("testdata", "resources.golden.json"), got.String())
}
