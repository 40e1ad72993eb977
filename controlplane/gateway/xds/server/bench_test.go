// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"runtime"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
)

// sizes of gateways that are compared: what a change costs must not depend on them.
var sizes = []int{100, 1000, 10000}

// crowd is a gateway with tenants, which have an endpoint each.
func crowd(t testing.TB, tenants int) *State {
	t.Helper()
	s := NewState()
	must(t, s.SetGateway(testGateway))
	for i := range tenants {
		set(t, s, testTenant("a", fmt.Sprintf("c%d", i), uint16(10000+i)), apiserver("10.244.0.1"))
	}
	return s
}

// BenchmarkChange is what the control plane does when a tenant comes and goes, for two data planes that follow everything: processor
// time up to the encoded responses, and their bytes.
func BenchmarkChange(b *testing.B) {
	for _, tenants := range sizes {
		b.Run(fmt.Sprintf("tenants=%d", tenants), func(b *testing.B) {
			s := crowd(b, tenants)
			streams := []*stream{s.follow("default"), s.follow("default")}
			for _, st := range streams {
				for _, typeURL := range []string{resourcev3.EndpointType, resourcev3.ClusterType, resourcev3.ListenerType} {
					must(b, st.request(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL}))
				}
				drain(st, got{})
			}
			bytes := 0
			sendAll := func() {
				for _, st := range streams {
					for response := st.next(); response != nil; response = st.next() {
						data, err := proto.Marshal(response)
						must(b, err)
						bytes += len(data)
					}
				}
			}
			b.ResetTimer()
			for i := range b.N {
				name := fmt.Sprintf("new%d", i%1000)
				set(b, s, testTenant("a", name, uint16(30000+i%1000)), apiserver("10.244.0.9"))
				sendAll()
				must(b, s.RemoveTenant("a", name))
				sendAll()
			}
			b.ReportMetric(float64(bytes)/float64(b.N), "wire-B/op")
		})
	}
}

// BenchmarkMemory is what a tenant takes in a manager that serves it.
func BenchmarkMemory(b *testing.B) {
	const tenants = 10000
	for range b.N {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		s := crowd(b, tenants)
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(s)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/tenants, "B/tenant")
	}
}

// BenchmarkNewTenant is the time from a new tenant to its clusters at a connected data plane, over the network with TLS.
func BenchmarkNewTenant(b *testing.B) {
	for _, tenants := range sizes {
		b.Run(fmt.Sprintf("tenants=%d", tenants), func(b *testing.B) {
			t := testing.TB(b)
			ca, state := newAuthority(t), crowd(b, tenants)
			address := start(t, ca, state)
			cert, key := ca.issue(t, "", "spiffe://kamaji/gateway/default")
			c := dial(t, address, ca.pool, cert, key)
			c.subscribe("default/node-1", resourcev3.ClusterType, []string{"*"}, nil)
			for n := 0; n < 6*tenants; {
				n += len(c.recv().GetResources())
			}
			b.ResetTimer()
			for i := range b.N {
				name := fmt.Sprintf("new%d", i%1000)
				set(t, state, testTenant("a", name, uint16(30000+i%1000)), nil)
				c.recv()
				must(t, state.RemoveTenant("a", name))
				c.recv()
			}
		})
	}
}
