// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds"
)

const (
	randomTenants = 12
	randomVisits  = 400
)

// TestEnvoyLeadsWhereTheEmbeddedDataPlaneLeads: for random tenants and connections, Envoy's resources name the endpoint that the
// embedded data plane connects to, or both refuse. A new seed each time; a failure says which.
func TestEnvoyLeadsWhereTheEmbeddedDataPlaneLeads(t *testing.T) {
	for _, seed := range []uint64{1, 2, rand.Uint64()} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { agree(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}

func agree(t *testing.T, random *rand.Rand) {
	w := newWorld(t)
	activator := w.newActivator(t)
	tenants := make([]*tenant, randomTenants)
	for i := range tenants {
		tenants[i] = w.randomTenant(t, random, i)
	}
	e := interpret(t, w.gateway, tenants, activator)
	startEmbedded(t, w)
	greeters := map[netip.AddrPort]string{netip.AddrPortFrom(activator.Address, activator.Port): "activator"}
	for _, n := range tenants {
		for greeting, server := range n.servers {
			at := server.endpoint()
			greeters[netip.AddrPortFrom(at.Address, at.Port)] = greeting
		}
	}
	served := 0
	for range randomVisits {
		v := w.randomVisit(random, tenants)
		var want []string
		for _, endpoint := range e.endpointsOf(v) {
			want = append(want, greeters[endpoint])
		}
		_, got := connect(t, v)
		if got != "" {
			served++
		}
		if agreed := got == "" && len(want) == 0 || slices.Contains(want, got); !agreed {
			t.Errorf("from %s to %s as %q with %v: the embedded data plane leads to %q, Envoy to %q", v.from, v.to, v.name, v.protocols, got, want)
		}
	}
	if served < randomVisits/10 || served > randomVisits*9/10 {
		t.Errorf("%d of %d connections were served: these say little", served, randomVisits)
	}
}

// interpret builds Envoy's resources, as the control plane does.
func interpret(t testing.TB, gateway route.Gateway, tenants []*tenant, activators ...route.Endpoint) *interpreter {
	t.Helper()
	e := &interpreter{
		t: t, clusters: map[string]*clusterv3.Cluster{}, endpoints: map[string]*endpointv3.ClusterLoadAssignment{},
		access: map[string]*corev3.TypedExtensionConfig{},
	}
	var err error
	e.listeners, err = xds.Listeners(gateway)
	must(t, err)
	sources := map[xds.AccessList]map[string][]netip.Prefix{}
	for _, list := range xds.AccessLists() {
		sources[list] = map[string][]netip.Prefix{}
	}
	for _, n := range tenants {
		for _, r := range route.Routes(n.Tenant) {
			e.clusters[r.Key.String()] = xds.Cluster(r)
			if list, entry := xds.AccessListOf(r.Key); len(r.Policy.Sources) > 0 {
				sources[list][entry] = r.Policy.Sources
			}
		}
		for _, group := range n.Groups() {
			name := route.BackendName(n.Namespace, n.Name, group)
			e.endpoints[name] = xds.Assignment(name, n.backends.Group(group, activators))
		}
	}
	for list, entries := range sources {
		e.access[string(list)], err = xds.Access(list, entries)
		must(t, err)
	}
	return e
}

func (w *world) randomTenant(t testing.TB, random *rand.Rand, i int) *tenant {
	t.Helper()
	n := w.newTenant(t, fmt.Sprintf("t%d", i))
	for j := range random.IntN(3) {
		n.serve(t, route.PortAPIServer, fmt.Sprintf("%s apiserver %d", n.Name, j))
	}
	for port, endpoints := range n.backends {
		for j := range endpoints {
			endpoints[j].Draining = random.IntN(4) == 0
		}
		if random.IntN(10) == 0 {
			n.backends[port] = nil
		}
	}
	n.PrivateOnly, n.Wake = random.IntN(4) == 0, random.IntN(2) == 0
	n.Public.Sources, n.Private.Sources = randomNetworks(random), randomNetworks(random)
	if random.IntN(3) == 0 {
		n.AdditionalHostnames = nil
	}
	if random.IntN(4) == 0 {
		n.Address = netip.Addr{}
	}
	w.set(t, n.Tenant, n.backends)
	return n
}

// randomNetworks are some that clients come from, or none half of the time.
func randomNetworks(random *rand.Rand) []netip.Prefix {
	var out []netip.Prefix
	for range random.IntN(6) - 2 {
		out = append(out, netip.PrefixFrom(randomClient(random), 8+random.IntN(25)))
	}
	if len(out) == 0 {
		return nil
	}
	return route.SortSources(out)
}

func randomClient(random *rand.Rand) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(16 + random.IntN(4)), byte(random.IntN(4)), byte(1 + random.IntN(8))})
}

// randomVisit is often right, and wrong in every way that a client or attacker could be. A trailing dot is left out, which RFC 6066
// forbids: the embedded data plane forgives it, Envoy does not.
func (w *world) randomVisit(random *rand.Rand, tenants []*tenant) visit {
	i := random.IntN(len(tenants))
	n, other := tenants[i], tenants[random.IntN(len(tenants))]
	to := []netip.AddrPort{w.public(), w.private(), w.own(n.Tenant), netip.AddrPortFrom(w.gateway.PublicAddress, n.Port),
		netip.AddrPortFrom(addressOf(i), w.gateway.Port), netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 99, 200, byte(random.IntN(256))}), w.gateway.Port)}
	names := []string{
		n.Hostname, n.Hostname, n.Hostname, strings.ToUpper(n.Hostname), n.Name + ".customer.example", other.Hostname, "", "kubernetes.default.svc",
		"nobody.example", n.Hostname + "|" + route.ALPNKonnectivity, "public|sni|" + n.Hostname, "127.0.0.2", "none", "xds", "-", "a_b.example", n.Hostname + "\x00",
	}
	protocols := [][]string{nil, {"h2"}, {"http/1.1", "h2"}, agent, {"h2", route.ALPNKonnectivity}, {"Konnectivity"}, {"konnectivity2"}}
	v := visit{
		from: randomClient(random), to: to[random.IntN(len(to))], name: names[random.IntN(len(names))], protocols: protocols[random.IntN(len(protocols))],
	}
	if random.IntN(20) == 0 {
		v.raw = []byte("GET / HTTP/1.1\r\n\r\n")
	}
	return v
}
