// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

// The size of the test; `make bench-gateway` does the same with ten thousand tenants.
const (
	manyTenants = 400
	manyStreams = 400
	manyChanges = 200
)

// Tenants come and go by the hundred, endpoints change, and not one open stream of the others ends.
func TestNoStreamEndsWhileTenantsComeAndGo(t *testing.T) {
	w := newWorld(t)
	server := newGreeter(t, "server")
	backends := route.Backends{route.PortAPIServer: {server.endpoint()}, route.PortKonnectivity: {server.endpoint()}}
	numbered := func(i int) route.Tenant {
		name := fmt.Sprintf("t%d", i)
		return route.Tenant{Namespace: "tenants", Name: name, Gateway: w.gateway.Name, Hostname: name + ".k8s.example.com", Port: uint16(11000 + i)}
	}
	for i := range manyTenants {
		w.set(t, numbered(i), backends)
	}
	startEmbedded(t, w)
	streams := make([]*client, manyStreams)
	for i := range streams {
		n := numbered(i % manyTenants)
		streams[i] = open(t, visit{to: w.public(), name: n.Hostname}, "server")
	}
	other := newGreeter(t, "other")
	for i := range manyChanges {
		added := numbered(manyTenants + i)
		w.set(t, added, backends)
		if i%2 == 0 {
			changed := numbered(i % manyTenants)
			w.set(t, changed, route.Backends{route.PortAPIServer: {server.endpoint(), other.endpoint()}, route.PortKonnectivity: backends[route.PortKonnectivity]})
		}
	}
	last := numbered(manyTenants + manyChanges - 1)
	until(t, "the last tenant is reached", func() bool {
		_, got := connect(t, visit{to: w.public(), name: last.Hostname})
		return got == "server"
	})
	for i := range manyChanges {
		must(t, w.state.RemoveTenant("tenants", numbered(manyTenants+i).Name))
	}
	until(t, "the last tenant is gone", func() bool {
		_, got := connect(t, visit{to: w.public(), name: last.Hostname})
		return got == ""
	})
	for i, c := range streams {
		if !c.alive() {
			t.Errorf("stream %d ended", i)
		}
	}
}
