// SPDX-License-Identifier: Apache-2.0

// Package upstream is the route table of a data plane: which name leads to which backend, and which
// endpoint of it a connection is to take. Lookups take no lock and make no garbage; a change touches
// only its own route or backend, however many there are.
package upstream

import (
	"hash/maphash"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

// shards is the number of maps that the table is split into. A change copies one of them, so that
// readers always see a map nobody writes to; with 60 000 routes that is a map of some 60.
const shards = 1024

// Set holds routes and backends. Lookup is for everybody; one goroutine at a time makes changes.
type Set struct {
	seed     maphash.Seed
	routes   [shards]atomic.Pointer[map[string]*Route]
	count    atomic.Int64
	backends map[string]*Backend
	accounts *Accounts
}

// NewSet returns an empty set.
func NewSet() *Set {
	return &Set{seed: maphash.MakeSeed(), backends: map[string]*Backend{}, accounts: newAccounts()}
}

// Settings are what can change about a route.
type Settings struct {
	// Backend is the name of the backend it leads to, which may come later than the route.
	Backend string
	// ConnectTimeout bounds one attempt to connect.
	ConnectTimeout time.Duration
	// Side is the one that connections by this route count for, and MaxConnections bounds the open ones of the tenant there; 0: no bound.
	Side           Side
	MaxConnections int64
	// Sources are the networks that connections are taken from, as route.SortSources leaves them; none: from everywhere.
	Sources []netip.Prefix
}

func (s *Settings) equal(o *Settings) bool {
	return s.Backend == o.Backend && s.ConnectTimeout == o.ConnectTimeout && s.Side == o.Side && s.MaxConnections == o.MaxConnections && slices.Equal(s.Sources, o.Sources)
}

// Allows says whether connections are taken from source.
func (s *Settings) Allows(source netip.Addr) bool {
	if len(s.Sources) == 0 {
		return true
	}
	// They are sorted and none is inside another, so it is the last one that begins at or before source, or none.
	after, found := slices.BinarySearchFunc(s.Sources, source, func(p netip.Prefix, a netip.Addr) int { return p.Addr().Compare(a) })
	return found || after > 0 && s.Sources[after-1].Contains(source)
}

// Accounts are the accounts of the tenants that have routes.
func (s *Set) Accounts() *Accounts { return s.accounts }

// Lookup returns the route of that name, or nil.
func (s *Set) Lookup(name []byte) *Route {
	m := s.routes[maphash.Bytes(s.seed, name)%shards].Load()
	if m == nil {
		return nil
	}
	return (*m)[string(name)]
}

// Len is the number of routes.
func (s *Set) Len() int { return int(s.count.Load()) }

// PutRoute adds the route of that name or changes its settings. Its open connections stay.
func (s *Set) PutRoute(name string, settings Settings) {
	r := s.Lookup([]byte(name))
	if r == nil {
		r = &Route{Name: name}
		defer s.count.Add(1)
		defer s.swap(name, func(m map[string]*Route) { m[name] = r })
	} else if old := r.settings.Load(); !old.equal(&settings) {
		defer s.unref(old.backend)
	} else {
		return
	}
	b := s.backend(settings.Backend)
	b.routes++
	r.settings.Store(&routeSettings{Settings: settings, backend: b})
}

// RemoveRoute removes the route of that name and returns it, nil when there is none. Closing its
// connections is up to the caller.
func (s *Set) RemoveRoute(name string) *Route {
	r := s.Lookup([]byte(name))
	if r == nil {
		return nil
	}
	s.swap(name, func(m map[string]*Route) { delete(m, name) })
	s.count.Add(-1)
	s.unref(r.settings.Load().backend)
	return r
}

// Address is an endpoint as configured.
type Address struct {
	netip.AddrPort
	// Draining endpoints keep their connections and get no new ones.
	Draining bool
}

// PutBackend sets the endpoints of the backend of that name. Those that were there before keep their
// count of connections.
func (s *Set) PutBackend(name string, addresses []Address) {
	b := s.backend(name)
	b.assigned = true
	b.put(addresses)
}

// RemoveBackend takes all endpoints from the backend of that name. Routes to it may stay.
func (s *Set) RemoveBackend(name string) {
	if b := s.backends[name]; b != nil {
		b.assigned = false
		b.put(nil)
		s.forget(b)
	}
}

func (s *Set) backend(name string) *Backend {
	b := s.backends[name]
	if b == nil {
		b = &Backend{name: name, tunnels: map[tunnel]int{}, Account: s.accounts.open(route.TenantOf(name))}
		s.backends[name] = b
	}
	return b
}

func (s *Set) unref(b *Backend) {
	b.routes--
	s.forget(b)
}

// forget drops a backend that nothing refers to.
func (s *Set) forget(b *Backend) {
	if b.routes == 0 && !b.assigned {
		delete(s.backends, b.name)
		s.accounts.close(b.Account)
	}
}

// swap replaces the map that holds name by a changed copy.
func (s *Set) swap(name string, change func(map[string]*Route)) {
	shard := &s.routes[maphash.String(s.seed, name)%shards]
	changed := map[string]*Route{}
	if old := shard.Load(); old != nil {
		changed = maps.Clone(*old)
	}
	change(changed)
	shard.Store(&changed)
}
