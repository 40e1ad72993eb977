// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	now    = time.Unix(1000, 0)
	source = netip.MustParseAddr("192.0.2.1")
)

func addresses(n int) []Address {
	out := make([]Address, n)
	for i := range out {
		out[i].AddrPort = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 6443)
	}
	return out
}

func with(n int) *Backend {
	s := NewSet()
	s.PutBackend("b", addresses(n))
	return s.backends["b"]
}

func TestRoutesComeAndGo(t *testing.T) {
	s := NewSet()
	for i := range 5000 {
		s.PutRoute(fmt.Sprintf("private|port|%d", i), Settings{Backend: fmt.Sprintf("b%d", i/2)})
	}
	if s.Len() != 5000 {
		t.Errorf("%d routes", s.Len())
	}
	r := s.Lookup([]byte("private|port|4711"))
	if r == nil || r.Name != "private|port|4711" || s.Lookup([]byte("private|port|5000")) != nil {
		t.Error("wrong route")
	}
	s.PutRoute(r.Name, Settings{Backend: "b9"})
	if s.Lookup([]byte(r.Name)) != r || s.Len() != 5000 || r.Backend() != s.backends["b9"] {
		t.Error("a change made another route of it")
	}
	for i := range 5000 {
		if s.RemoveRoute(fmt.Sprintf("private|port|%d", i)) == nil {
			t.Errorf("route %d is gone", i)
		}
	}
	if s.RemoveRoute(r.Name) != nil || s.Len() != 0 || len(s.backends) != 0 {
		t.Errorf("%d routes and %d backends left", s.Len(), len(s.backends))
	}
}

func TestBackendOutlivesItsAssignment(t *testing.T) {
	s := NewSet()
	s.PutRoute("r", Settings{Backend: "b"})
	r := s.Lookup([]byte("r"))
	if r.Backend().Pick(source, false, nil, now) != nil {
		t.Error("an endpoint out of nothing")
	}
	s.PutBackend("b", addresses(1))
	if r.Backend().Pick(source, false, nil, now) == nil {
		t.Error("the endpoint that came after the route is not used")
	}
	s.RemoveBackend("b")
	if r.Backend().Pick(source, false, nil, now) != nil {
		t.Error("a removed endpoint is still used")
	}
	s.PutBackend("b", addresses(1))
	if r.Backend().Pick(source, false, nil, now) == nil {
		t.Error("the backend that came back is not used")
	}
	s.RemoveRoute("r")
	s.RemoveBackend("b")
	if len(s.backends) != 0 {
		t.Error("a backend without use is kept")
	}
}

func TestLeastConnections(t *testing.T) {
	b := with(3)
	count := map[netip.AddrPort]int{}
	var picked []*Endpoint
	for range 9 {
		e := b.Pick(source, false, nil, now)
		count[e.Addr]++
		picked = append(picked, e)
	}
	for addr, n := range count {
		if n != 3 {
			t.Errorf("%s has %d of 9 connections", addr, n)
		}
	}
	b.Return(picked[0], source, false)
	if e := b.Pick(source, false, nil, now); e.Addr != picked[0].Addr {
		t.Errorf("picked %s, but %s has the fewest", e.Addr, picked[0].Addr)
	}
	// Endpoints keep their counts when others come: the new one takes all until it has as many.
	b.put(addresses(4))
	for range 3 {
		if e := b.Pick(source, false, nil, now); e.Addr != addresses(4)[3].AddrPort {
			t.Errorf("picked %s instead of the new one", e.Addr)
		}
	}
}

func TestDrainingTriedAndSuspectedEndpoints(t *testing.T) {
	b := with(3)
	list := addresses(3)
	list[0].Draining = true
	b.put(list)
	for range 4 {
		if e := b.Pick(source, false, nil, now); e.Addr == list[0].AddrPort {
			t.Error("a draining endpoint got a connection")
		}
	}
	first := b.Pick(source, false, nil, now)
	first.Suspect(now)
	second := b.Pick(source, false, []*Endpoint{first}, now)
	if second == nil || second.Addr == first.Addr {
		t.Fatalf("picked %v again", second)
	}
	if e := b.Pick(source, false, []*Endpoint{first, second}, now); e != nil {
		t.Errorf("picked %s, though all were tried", e.Addr)
	}
	for range 6 {
		if e := b.Pick(source, false, nil, now); e.Addr == first.Addr {
			t.Error("a suspected endpoint is preferred")
		}
	}
	second.Suspect(now)
	if b.Pick(source, false, nil, now) == nil {
		t.Error("suspected endpoints are not used when there is no other")
	}
	if e := b.Pick(source, false, nil, now.Add(suspicion)); e.Addr != first.Addr {
		t.Error("suspicion does not end")
	}
}

func TestAgentsReachEveryServerInAsManyDials(t *testing.T) {
	b := with(5)
	other := netip.MustParseAddr("192.0.2.2")
	for range 7 { // makes the counts uneven
		b.Pick(other, true, nil, now)
	}
	got := map[netip.AddrPort]bool{}
	var last *Endpoint
	for range 5 {
		last = b.Pick(source, true, nil, now)
		got[last.Addr] = true
	}
	if len(got) != 5 {
		t.Errorf("5 dials reached %d servers", len(got))
	}
	b.Return(last, source, true)
	if e := b.Pick(source, true, nil, now); e.Addr != last.Addr {
		t.Errorf("picked %s, but the tunnel to %s is the one missing", e.Addr, last.Addr)
	}
	// Draining and coming back is the same endpoint still.
	list := addresses(5)
	list[0].Draining = true
	b.put(list)
	b.put(addresses(5))
	if n := b.tunnels[tunnel{source, (*b.endpoints.Load())[0].shared}]; n != 1 {
		t.Errorf("%d tunnels known to the endpoint that was draining", n)
	}
	for _, e := range *b.endpoints.Load() {
		b.Return(e, source, true)
	}
	left := 0
	for key := range b.tunnels {
		if key.source == source {
			left++
		}
	}
	if diff := cmp.Diff(0, left); diff != "" {
		t.Errorf("tunnels kept (-want +got):\n%s", diff)
	}
}

func BenchmarkLookup(b *testing.B) {
	s := NewSet()
	for i := range 60000 {
		s.PutRoute(fmt.Sprintf("public|sni|tenant-%d.k8s.example.com", i), Settings{Backend: "b"})
	}
	name := []byte("public|sni|tenant-4711.k8s.example.com")
	b.ReportAllocs()
	for b.Loop() {
		if s.Lookup(name) == nil {
			b.Fatal("not found")
		}
	}
}

func BenchmarkChange(b *testing.B) {
	s := NewSet()
	for i := range 60000 {
		s.PutRoute(fmt.Sprintf("public|sni|tenant-%d.k8s.example.com", i), Settings{Backend: "b"})
	}
	for b.Loop() {
		s.PutRoute("public|sni|new.k8s.example.com", Settings{Backend: "new"})
		s.RemoveRoute("public|sni|new.k8s.example.com")
	}
}

func TestSources(t *testing.T) {
	var s Settings
	if !s.Allows(source) {
		t.Error("without a list a source is refused")
	}
	for _, text := range []string{"10.0.0.0/8", "192.0.2.0/25", "192.0.2.200/32", "198.51.100.0/24", "2001:db8::/32"} {
		s.Sources = append(s.Sources, netip.MustParsePrefix(text))
	}
	for text, want := range map[string]bool{
		"9.255.255.255": false, "10.0.0.0": true, "10.255.255.255": true, "11.0.0.0": false, "192.0.2.1": true, "192.0.2.128": false, "192.0.2.200": true,
		"192.0.2.201": false, "198.51.100.255": true, "255.0.0.0": false, "2001:db8::1": true, "2001:db9::1": false, "::1": false,
	} {
		if got := s.Allows(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestTheRoutesOfATenantShareItsLimit: those of one side, to whatever backend of it, and no other tenant's.
func TestTheRoutesOfATenantShareItsLimit(t *testing.T) {
	s := NewSet()
	for name, settings := range map[string]Settings{
		"api": {Backend: "ns/a/kube-apiserver", Side: Public}, "tunnel": {Backend: "ns/a/konnectivity-server", Side: Public},
		"inside": {Backend: "ns/a/kube-apiserver", Side: Private}, "other": {Backend: "ns/b/kube-apiserver", Side: Public},
	} {
		settings.MaxConnections = 2
		s.PutRoute(name, settings)
	}
	acquire := func(name string) bool {
		b, settings := s.Lookup([]byte(name)).Current()
		return b.Account.Acquire(settings.Side, settings.MaxConnections)
	}
	if !acquire("api") || !acquire("tunnel") || acquire("api") || acquire("tunnel") {
		t.Error("of two connections by two routes a third was taken, or not both")
	}
	if !acquire("inside") || !acquire("other") {
		t.Error("the other side, or another tenant, is kept out")
	}
	b, _ := s.Lookup([]byte("tunnel")).Current()
	b.Account.Release(Public)
	if !acquire("api") {
		t.Error("a connection that ended is still counted")
	}
}

// TestAccountsAreBoundedAndNeverFall: as many tenants as may be are reported by name, and no sum falls when tenants leave.
func TestAccountsAreBoundedAndNeverFall(t *testing.T) {
	s := NewSet()
	account := func(tenant string) *Account {
		s.PutRoute(tenant+"|r", Settings{Backend: tenant + "/kube-apiserver"})
		b, _ := s.Lookup([]byte(tenant + "|r")).Current()
		return b.Account
	}
	use := func(a *Account, n uint64) { a.Connections.Add(n); a.Bytes.Sent.Add(10 * n) }
	report := func() (names map[string]uint64, others, all Totals) {
		names = map[string]uint64{}
		others, all = s.Accounts().Report(2, func(tenant string, t Totals) { names[tenant] = t.Connections })
		return names, others, all
	}
	a, b, idle := account("ns/a"), account("ns/b"), account("ns/idle")
	use(a, 1)
	use(b, 2)
	names, _, _ := report()
	if diff := cmp.Diff(map[string]uint64{"ns/a": 1, "ns/b": 2}, names); diff != "" {
		t.Errorf("by name (-want +got):\n%s", diff)
	}
	use(idle, 4)
	names, others, all := report()
	if len(names) != 2 || others.Connections != 4 || all.Connections != 7 || all.Sent != 70 {
		t.Errorf("%v, others %+v, all %+v", names, others, all)
	}
	s.RemoveRoute("ns/a|r")
	names, others, all = report()
	if diff := cmp.Diff(map[string]uint64{"ns/b": 2}, names); diff != "" || others.Connections != 4 || all.Sent != 70 {
		t.Errorf("after one left: others %+v, all %+v, by name (-want +got):\n%s", others, all, diff)
	}
	use(account("ns/new"), 8)
	names, _, _ = report()
	if diff := cmp.Diff(map[string]uint64{"ns/b": 2, "ns/new": 8}, names); diff != "" {
		t.Errorf("the place that became free (-want +got):\n%s", diff)
	}
	s.RemoveRoute("ns/idle|r")
	if _, others, all = report(); others.Connections != 4 || all.Sent != 150 {
		t.Errorf("after all left: others %+v, all %+v", others, all)
	}
}
