// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/relay"
)

// suspicion is how long an endpoint that did not take a connection is only used when no other is left:
// the time it takes an EndpointSlice to notice a lost node, roughly.
const suspicion = 5 * time.Second

// Route leads connections to a backend.
type Route struct {
	// Name is what it is looked up by.
	Name string
	// Group holds its open connections.
	Group relay.Group

	settings atomic.Pointer[routeSettings]
}

type routeSettings struct {
	Settings
	backend *Backend
}

// Settings are the current ones.
func (r *Route) Settings() *Settings { return &r.settings.Load().Settings }

// Backend is where the route leads now.
func (r *Route) Backend() *Backend { return r.settings.Load().backend }

// Current are backend and settings as they belong together.
func (r *Route) Current() (*Backend, *Settings) {
	s := r.settings.Load()
	return s.backend, &s.Settings
}

// Backend is a group of interchangeable endpoints.
type Backend struct {
	// Account is that of its tenant.
	Account *Account

	name     string
	routes   int  // that lead here; kept by Set
	assigned bool // endpoints were configured; kept by Set

	endpoints atomic.Pointer[[]*Endpoint]
	turn      atomic.Uint32

	mu      sync.Mutex
	tunnels map[tunnel]int
}

// tunnel is an open konnectivity connection.
type tunnel struct {
	source   netip.Addr
	endpoint *shared
}

// Endpoint is one address of a backend.
type Endpoint struct {
	Addr netip.AddrPort

	draining bool
	shared   *shared
}

// shared is what an endpoint keeps when its configuration changes.
type shared struct {
	active    atomic.Int64
	suspected atomic.Int64 // Unix nanoseconds until which it is suspected
}

// put replaces the endpoints.
func (b *Backend) put(addresses []Address) {
	known := map[netip.AddrPort]*Endpoint{}
	if old := b.endpoints.Load(); old != nil {
		for _, e := range *old {
			known[e.Addr] = e
		}
	}
	next := make([]*Endpoint, 0, len(addresses))
	for _, a := range addresses {
		e := known[a.AddrPort]
		switch {
		case e == nil:
			e = &Endpoint{Addr: a.AddrPort, draining: a.Draining, shared: new(shared)}
		case e.draining != a.Draining:
			e = &Endpoint{Addr: a.AddrPort, draining: a.Draining, shared: e.shared}
		}
		next = append(next, e)
	}
	b.endpoints.Store(&next)
}

// Awake tells whether there is an endpoint for new connections.
func (b *Backend) Awake() bool {
	list := b.endpoints.Load()
	return list != nil && slices.ContainsFunc(*list, func(e *Endpoint) bool { return !e.draining })
}

// Pick chooses the endpoint for a connection and counts it in; nil when there is none. Endpoints in
// tried are left out. Connections go where the fewest are. With spread, for konnectivity agents, the
// endpoint to which this source has the fewest comes first: an agent dials the one address it knows
// until it has a tunnel to every server, and so needs no more attempts than there are servers.
func (b *Backend) Pick(source netip.Addr, spread bool, tried []*Endpoint, now time.Time) *Endpoint {
	list := b.endpoints.Load()
	if list == nil || len(*list) == 0 {
		return nil
	}
	if spread {
		b.mu.Lock()
		defer b.mu.Unlock()
	}
	var best *Endpoint
	var bestRank rank
	first := int(b.turn.Add(1)) // ties go round
	for i := range *list {
		e := (*list)[(first+i)%len(*list)]
		if e.draining || slices.ContainsFunc(tried, func(t *Endpoint) bool { return t.Addr == e.Addr }) {
			continue
		}
		k := rank{suspected: e.shared.suspected.Load() > now.UnixNano(), active: e.shared.active.Load()}
		if spread {
			k.tunnels = b.tunnels[tunnel{source, e.shared}]
		}
		if best == nil || k.less(bestRank) {
			best, bestRank = e, k
		}
	}
	if best == nil {
		return nil
	}
	best.shared.active.Add(1)
	if spread {
		b.tunnels[tunnel{source, best.shared}]++
	}
	return best
}

// rank orders endpoints by preference.
type rank struct {
	suspected bool
	tunnels   int
	active    int64
}

func (k rank) less(other rank) bool {
	switch {
	case k.suspected != other.suspected:
		return other.suspected
	case k.tunnels != other.tunnels:
		return k.tunnels < other.tunnels
	}
	return k.active < other.active
}

// Return counts a connection out that Pick counted in, with the same source and spread.
func (b *Backend) Return(e *Endpoint, source netip.Addr, spread bool) {
	e.shared.active.Add(-1)
	if !spread {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	key := tunnel{source, e.shared}
	if b.tunnels[key]--; b.tunnels[key] == 0 {
		delete(b.tunnels, key)
	}
}

// Suspect notes that e did not take a connection.
func (e *Endpoint) Suspect(now time.Time) { e.shared.suspected.Store(now.Add(suspicion).UnixNano()) }
