// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"testing"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// BenchmarkNewTenant is the time from a new tenant to its clusters at a connected data plane, beside ten thousand others.
func BenchmarkNewTenant(b *testing.B) {
	t := testing.TB(b)
	const tenants = 10000
	ca, state := newAuthority(t), NewState()
	must(t, state.SetGateway(testGateway))
	for i := range tenants {
		set(t, state, testTenant("a", fmt.Sprintf("c%d", i), uint16(10000+i)), apiserver("10.244.0.1"))
	}
	address := start(t, ca, state)
	cert, key := ca.issue(t, "", "spiffe://kamaji/gateway/default")
	c := dial(t, address, ca.pool, cert, key)
	c.subscribe("default/node-1", resourcev3.ClusterType, []string{"*"}, nil)
	c.recv()
	b.ResetTimer()
	for i := range b.N {
		name := fmt.Sprintf("new%d", i%1000)
		set(t, state, testTenant("a", name, uint16(30000+i%1000)), nil)
		c.recv()
		must(t, state.RemoveTenant("a", name))
		c.recv()
	}
}
