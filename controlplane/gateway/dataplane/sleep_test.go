// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

// A tenant that was scaled to zero has no endpoints: its clients are told at once, by whatever way they come, and served again as soon as
// there is one, without a change of the gateway.
func TestSleepingTenantIsRefusedAtOnce(t *testing.T) {
	w := newWorld(t)
	a, b := w.newTenant(t, "a"), w.newTenant(t, "b")
	awake := a.backends
	a.backends = route.Backends{}
	w.set(t, a)
	g, _ := w.start(t, a, b)
	visits := []struct {
		to       netip.AddrPort
		name     string
		protocol []string
	}{
		{w.public(), a.Hostname, nil}, {w.private(), a.Hostname, nil}, {w.own(a), inCluster, nil}, {w.own(a), inCluster, []string{route.ALPNKonnectivity, "h2"}},
	}
	for _, v := range visits {
		if _, _, err := a.dial(t, v.to, v.name, v.protocol...); err == nil || !strings.Contains(err.Error(), "internal error") {
			t.Errorf("a connection to %s as %q with %v: %v, want a TLS alert", v.to, v.name, v.protocol, err)
		}
	}
	b.must(t, w.public(), b.Hostname)
	until(t, "it is logged", func() bool { return w.logged("no_endpoint") != nil })
	if got := w.logged("no_endpoint"); got["route"] != "public|sni|"+a.Hostname || got["sni"] != a.Hostname {
		t.Errorf("logged %v", got)
	}
	if _, metrics := get(t, g, "/metrics"); !strings.Contains(metrics, `kamaji_gateway_connections_total{listener="public",reason="no_endpoint"} 1`) {
		t.Error("it is not counted")
	}
	a.backends = awake
	w.set(t, a)
	for _, v := range visits {
		until(t, "the tenant is awake", func() bool { _, _, err := a.dial(t, v.to, v.name, v.protocol...); return err == nil })
	}
}
