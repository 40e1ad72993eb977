// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/upstream"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds"
)

func resource(t *testing.T, name string, m proto.Message) *discoveryv3.Resource {
	t.Helper()
	packed, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return &discoveryv3.Resource{Name: name, Version: "1", Resource: packed}
}

func socket(ip string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

// TestUnusableResourcesAreRejected: each response holds a good resource too, which must come into effect.
func TestUnusableResourcesAreRejected(t *testing.T) {
	w := newWorld(t)
	w.stop()
	good := route.Route{Key: route.HostKey(route.Public, "good.example", false), Backend: "b"}
	bad := route.Route{Key: route.HostKey(route.Public, "bad.example", false), Backend: ""}
	slow := xds.Cluster(route.Route{Key: bad.Key, Backend: "b"})
	slow.ConnectTimeout = durationpb.New(-time.Second)
	shared := netip.AddrPortFrom(w.gateway.PublicAddress, w.gateway.Port)
	public := &listenerv3.Listener{Name: "public", Address: socket(shared.Addr().String(), uint32(shared.Port()))}
	for _, tc := range []struct {
		name, typeURL string
		good, bad     *discoveryv3.Resource
		want          string
	}{
		{"cluster without endpoints", types[1], resource(t, good.Key.String(), xds.Cluster(good)), resource(t, "x", xds.Cluster(bad)), "service_name"},
		{"timeout in the past", types[1], resource(t, good.Key.String(), xds.Cluster(good)), resource(t, "x", slow), "connect_timeout"},
		{"of another type", types[1], resource(t, good.Key.String(), xds.Cluster(good)), resource(t, "x", public), "decoding"},
		{"endpoint without an address", types[0], resource(t, "b", xds.Assignment("b", nil)), resource(t, "x", &endpointv3.ClusterLoadAssignment{
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{}}}},
		}), "no IP address"},
		{"unknown listener", types[2], resource(t, "public", public), resource(t, "x", &listenerv3.Listener{Name: "x", Address: socket("127.0.0.1", 1)}), "neither"},
		{"listener without a port", types[2], resource(t, "public", public), resource(t, "x", &listenerv3.Listener{Name: "private", Address: socket("127.0.0.1", 0)}), "no TCP port"},
		{"listener with a host name", types[2], resource(t, "public", public), resource(t, "x", &listenerv3.Listener{Name: "private", Address: socket("gateway", 1)}), "no IP address"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.config.StateDir = t.TempDir()
			g, _ := w.run(t)
			err := g.Apply(tc.typeURL, []*discoveryv3.Resource{tc.bad, tc.good}, nil)
			if err == nil || !strings.HasPrefix(err.Error(), "x: ") || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one about %q", err, tc.want)
			}
			versions := g.Versions(tc.typeURL)
			if len(versions) != 1 || versions[tc.good.GetName()] != "1" {
				t.Errorf("in effect: %v", versions)
			}
		})
	}
}

// TestListenersSwapAndShift: whatever order addresses change in, each is open once, for the right listener.
func TestListenersSwapAndShift(t *testing.T) {
	w := newWorld(t)
	n := w.newTenant(t, "a")
	g, _ := w.start(t, n)
	kinds := func() map[netip.AddrPort]string {
		g.configMu.Lock()
		defer g.configMu.Unlock()
		got := map[netip.AddrPort]string{}
		for addr, l := range g.listeners.open {
			got[addr] = l.Tag.(*entrance).kind
		}
		return got
	}
	change := func(what string, gateway route.Gateway, want map[netip.AddrPort]string) {
		t.Helper()
		if err := w.state.SetGateway(gateway); err != nil {
			t.Fatal(err)
		}
		until(t, what, func() bool { return maps.Equal(kinds(), want) })
	}
	public, private := w.gateway.PublicAddress, w.gateway.PrivateAddress
	at := netip.AddrPortFrom
	swapped := w.gateway
	swapped.PublicAddress, swapped.PrivateAddress = private, public
	change("public and private swap", swapped, map[netip.AddrPort]string{
		at(private, swapped.Port): kindPublic, at(public, swapped.Port): kindPrivate, at(public, n.Port): kindTenantPort,
	})
	onTenantPort := w.gateway
	onTenantPort.Port = n.Port
	change("the shared port becomes the tenant's", onTenantPort, map[netip.AddrPort]string{
		at(public, n.Port): kindPublic, at(private, n.Port): kindPrivate,
	})
	change("and is itself again", w.gateway, map[netip.AddrPort]string{
		at(public, w.gateway.Port): kindPublic, at(private, w.gateway.Port): kindPrivate, at(private, n.Port): kindTenantPort,
	})
	n.must(t, w.own(n), inCluster)
}

func TestForeignClustersAreIgnored(t *testing.T) {
	w := newWorld(t)
	w.stop()
	g, _ := w.run(t)
	if err := g.Apply(types[1], []*discoveryv3.Resource{resource(t, "blackhole", &clusterv3.Cluster{Name: "blackhole"})}, nil); err != nil {
		t.Error(err)
	}
	if g.routes.Len() != 0 {
		t.Error("it became a route")
	}
	if err := g.Apply("type.googleapis.com/unknown", nil, nil); err == nil {
		t.Error("an unknown type was accepted")
	}
}

func TestARouteThatChangesItsTenantDropsItsConnections(t *testing.T) {
	w := newWorld(t)
	a := w.newTenant(t, "a")
	g, _ := w.start(t, a)
	c := a.must(t, w.public(), a.Hostname)
	key := route.HostKey(route.Public, a.Hostname, false)
	taken := xds.Cluster(route.Route{Key: key, Backend: "other/b/kube-apiserver"})
	if err := g.Apply(types[1], []*discoveryv3.Resource{resource(t, key.String(), taken)}, nil); err != nil {
		t.Fatal(err)
	}
	c.ended()
	want := upstream.Settings{Backend: "other/b/kube-apiserver", ConnectTimeout: time.Second, Side: upstream.Public, MaxConnections: route.DefaultMaxConnections}
	if got := g.routes.Lookup([]byte(key.String())).Settings(); !cmp.Equal(*got, want, cmpopts.EquateEmpty()) {
		t.Errorf("settings %+v, want %+v", got, want)
	}
}
