// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
)

// got is what a stream was sent, by type: the versions of resources, and "" for those that it was told are not there.
type got map[string]map[string]string

// drain takes every response that is due and returns their number.
func drain(st *stream, into got) int {
	for n := 0; ; n++ {
		response := st.next()
		if response == nil {
			return n
		}
		if into[response.GetTypeUrl()] == nil {
			into[response.GetTypeUrl()] = map[string]string{}
		}
		for _, r := range response.GetResources() {
			into[response.GetTypeUrl()][r.GetName()] = r.GetVersion()
		}
		for _, name := range response.GetRemovedResources() {
			into[response.GetTypeUrl()][name] = ""
		}
	}
}

func request(t *testing.T, st *stream, req *discoveryv3.DeltaDiscoveryRequest) {
	t.Helper()
	must(t, st.request(req))
}

// A proxy follows clusters as a whole and endpoints by name, as Envoy does.
func TestSubscriptions(t *testing.T) {
	const clusters, endpoints = resourcev3.ClusterType, resourcev3.EndpointType
	s := NewState()
	must(t, s.SetGateway(testGateway))
	set(t, s, testTenant("a", "c1", 20001), apiserver("10.244.0.1"))
	st := s.follow("default")
	sent := func() map[string][]string {
		all := got{}
		drain(st, all)
		out := map[string][]string{}
		for typeURL, resources := range all {
			out[typeURL] = []string{}
			for name, version := range resources {
				if version == "" {
					name = "-" + name
				}
				out[typeURL] = append(out[typeURL], name)
			}
			slices.Sort(out[typeURL])
		}
		return out
	}
	check := func(when string, want map[string][]string) {
		t.Helper()
		if diff := cmp.Diff(want, sent()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	request(t, st, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: endpoints, ResourceNamesSubscribe: []string{"a/c1/kube-apiserver", "a/c2/kube-apiserver"}})
	check("by name", map[string][]string{endpoints: {"-a/c2/kube-apiserver", "a/c1/kube-apiserver"}})
	set(t, s, testTenant("a", "c1", 20001), apiserver("10.244.0.1", "10.244.0.2"))
	set(t, s, testTenant("a", "c2", 20002), apiserver("10.244.0.3"))
	check("a change and a new one", map[string][]string{endpoints: {"a/c1/kube-apiserver", "a/c2/kube-apiserver"}})
	request(t, st, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: endpoints})
	check("an acknowledgement", map[string][]string{})
	request(t, st, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: endpoints, ResourceNamesSubscribe: []string{"a/c1/kube-apiserver"}})
	check("subscribed again", map[string][]string{endpoints: {"a/c1/kube-apiserver"}})
	request(t, st, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: endpoints, ResourceNamesUnsubscribe: []string{"a/c1/kube-apiserver"}})
	must(t, s.RemoveTenant("a", "c1"))
	must(t, s.RemoveTenant("a", "c2"))
	check("unsubscribed from one", map[string][]string{endpoints: {"-a/c2/kube-apiserver"}})

	// Nothing in the first request means everything; an answer is due even if that is nothing.
	request(t, st, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: clusters})
	check("everything, of which there is nothing", map[string][]string{clusters: {}})
	request(t, st, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: clusters})
	set(t, s, testTenant("b", "c1", 20001), nil)
	if got := len(sent()[clusters]); got != 6 {
		t.Errorf("a new tenant: got %d clusters, want 6", got)
	}
	request(t, st, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: clusters, ResourceNamesSubscribe: []string{"private|port|20001"}, ResourceNamesUnsubscribe: []string{"*"}})
	must(t, s.RemoveTenant("b", "c1"))
	check("everything no more", map[string][]string{clusters: {"-private|port|20001"}})
	st.end()
	for _, table := range s.gateways["default"].tables() {
		if len(table.everything)+len(table.named) != 0 {
			t.Errorf("%s: after the end %d and %d subscriptions are left", table.typeURL, len(table.everything), len(table.named))
		}
	}
	if err := st.request(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resourcev3.SecretType}); err == nil {
		t.Error("a type that is not served: want an error")
	}
}

// The golden difference of a new tenant: its clusters and its two assignments, whatever else is there.
func TestTenantAddSendsItsResourcesOnly(t *testing.T) {
	for _, others := range []int{0, 300} {
		s := NewState()
		must(t, s.SetGateway(testGateway))
		for i := range others {
			set(t, s, testTenant("a", fmt.Sprintf("c%d", i), uint16(20000+i)), apiserver("10.244.0.1"))
		}
		st := s.follow("default")
		for _, table := range s.gateways["default"].tables() {
			request(t, st, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: table.typeURL})
		}
		drain(st, got{})
		set(t, s, testTenant("a", "new", 30000), apiserver("10.244.0.9"))
		diff := got{}
		if n := drain(st, diff); n != 2 {
			t.Errorf("beside %d others: %d responses, want one of each type", others, n)
		}
		want := map[string][]string{
			resourcev3.EndpointType: {"a/new/konnectivity-server", "a/new/kube-apiserver"},
			resourcev3.ClusterType: {
				"private|port|30000", "private|port|30000|konnectivity", "private|sni|new.example.com", "private|sni|new.example.com|konnectivity",
				"public|sni|new.example.com", "public|sni|new.example.com|konnectivity",
			},
		}
		names := map[string][]string{}
		for typeURL, resources := range diff {
			names[typeURL] = slices.Sorted(maps.Keys(resources))
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("beside %d others (-want +got):\n%s", others, diff)
		}
	}
}

// However much there is, no response comes near the limit of a gRPC message, and listeners come last.
func TestFirstSyncInChunks(t *testing.T) {
	s := NewState()
	must(t, s.SetGateway(testGateway))
	for i := range 2000 {
		set(t, s, testTenant("a", fmt.Sprintf("c%d", i), uint16(20000+i)), apiserver("10.244.0.1"))
	}
	st := s.follow("default")
	for _, table := range s.gateways["default"].tables() {
		request(t, st, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: table.typeURL})
	}
	count, order := map[string]int{}, []string(nil)
	for response := st.next(); response != nil; response = st.next() {
		if size := proto.Size(response); size > chunk+chunk/10 {
			t.Errorf("a response has %d bytes", size)
		}
		count[response.GetTypeUrl()] += len(response.GetResources())
		order = append(order, response.GetTypeUrl())
	}
	want := map[string]int{resourcev3.EndpointType: 4000, resourcev3.ExtensionConfigType: 4, resourcev3.ClusterType: 12000, resourcev3.ListenerType: 2}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{resourcev3.EndpointType, resourcev3.ExtensionConfigType, resourcev3.ClusterType, resourcev3.ListenerType}, slices.Compact(order)); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if len(order) < 5 {
		t.Errorf("%d responses: nothing was cut", len(order))
	}
}

// Whatever happens while a data plane takes responses as fast or slowly as it does, it ends up with what is served.
func TestFollowersConverge(t *testing.T) {
	s := NewState()
	must(t, s.SetGateway(testGateway))
	var readers sync.WaitGroup
	done := make(chan struct{})
	follow := func() (*stream, got) {
		st, seen := s.follow("default"), got{}
		for _, table := range s.gateways["default"].tables() {
			request(t, st, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: table.typeURL})
		}
		readers.Go(func() {
			for {
				select {
				case <-st.bell:
					drain(st, seen)
				case <-done:
					drain(st, seen)
					return
				}
			}
		})
		return st, seen
	}
	_, early := follow()
	var late got
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 3000 {
		n := random.IntN(40)
		tenant := testTenant("a", fmt.Sprintf("c%d", n), uint16(20000+n))
		switch random.IntN(6) {
		case 0:
			must(t, s.RemoveTenant("a", tenant.Name))
			continue
		case 1:
			tenant.Hostname = fmt.Sprintf("shared%d.example.com", random.IntN(3))
		case 2:
			tenant.Private.Sources = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		case 3:
			tenant.PrivateOnly = true
		case 4:
			tenant.Wake = true
		}
		set(t, s, tenant, apiserver(fmt.Sprintf("10.244.0.%d", 1+random.IntN(200))))
		if i == 1500 {
			_, late = follow()
		}
	}
	close(done)
	readers.Wait()
	for _, table := range s.gateways["default"].tables() {
		want := map[string]string{}
		for name, r := range table.resources {
			want[name] = r.GetVersion()
		}
		for name, seen := range map[string]got{"from the start": early, "from half way": late} {
			is := maps.Clone(seen[table.typeURL])
			maps.DeleteFunc(is, func(_, version string) bool { return version == "" })
			if diff := cmp.Diff(want, is); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", table.typeURL, name, diff)
			}
		}
	}
	r := s.gateways["default"]
	for name := range r.clusters.resources {
		if holder := r.holders[name]; holder == nil || s.tenants[tenantKey{holder.Namespace, holder.Name}] != holder {
			t.Errorf("%s is served for nobody", name)
		}
	}
}
