// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// Limits can change while a relay runs. Zero values mean the defaults.
type Limits struct {
	// MaxConnections bounds the open connections, default what RLIMIT_NOFILE leaves beside the listeners. Those that are open stay.
	MaxConnections int
	// MaxPending bounds the connections without a complete ClientHello, default a quarter of all.
	MaxPending int
	// MaxAge bounds the age of a connection, by chance up to a fifth less; 0: no bound. A change counts for new connections.
	MaxAge time.Duration
}

// SetLimits replaces the limits.
func (r *Relay) SetLimits(l Limits) { r.limits.Store(&l) }

// Door is what the listeners that share it have in common. It bounds their connections to a part of those that the relay may have, so
// that a crowd at one door leaves room at another.
type Door struct {
	share   float64
	open    atomic.Int64
	proxies atomic.Pointer[[]netip.Prefix]
}

// NewDoor returns a door for share (more than 0, at most 1) of the connections of a relay.
func NewDoor(share float64) *Door { return &Door{share: share} }

// Open is the number of connections that are counted in.
func (d *Door) Open() int64 { return d.open.Load() }

// SetProxies replaces the networks of load balancers in front of this door. A new connection from there has to begin with a PROXY
// protocol header, version 1 or 2; one from elsewhere must not.
func (d *Door) SetProxies(networks []netip.Prefix) { d.proxies.Store(&networks) }

// proxied says whether source is a load balancer that begins its connections with a PROXY protocol header.
func (d *Door) proxied(source netip.Addr) bool {
	if d == nil {
		return false
	}
	networks := d.proxies.Load()
	return networks != nil && slices.ContainsFunc(*networks, func(p netip.Prefix) bool { return p.Contains(source) })
}

// Capacity is how many connections may be open now, over all listeners.
func (r *Relay) Capacity() int64 {
	if limit := r.limits.Load().MaxConnections; limit > 0 {
		return int64(limit)
	}
	return max(r.files-reservedFiles-r.sockets.Load(), 0) / 2 // two sockets each
}

// enter counts a connection in, if there is room for it.
func (r *Relay) enter(n *Listener) bool {
	capacity := r.Capacity()
	if r.active.Add(1) > capacity {
		r.active.Add(-1)
		return false
	}
	d := n.options.Door
	if d != nil && d.open.Add(1) > int64(d.share*float64(capacity)) {
		d.open.Add(-1)
		r.active.Add(-1)
		return false
	}
	return true
}

// leave counts a connection out.
func (r *Relay) leave(n *Listener) {
	if d := n.options.Door; d != nil {
		d.open.Add(-1)
	}
	r.active.Add(-1)
}

// pendingPerLoop is how many connections of one loop may be without their ClientHello. A client of good will sends it at once, so of
// too many the oldest is the one to be given up.
func (r *Relay) pendingPerLoop() int {
	limit := r.limits.Load().MaxPending
	if limit == 0 {
		limit = int(r.Capacity() / pendingPart)
	}
	return max(limit/len(r.loops), 1)
}

// pendingPart of the capacity may be connections without their ClientHello.
const pendingPart = 4

// Pauses counts how often a listener had to rest because the process or the system was out of descriptors or memory.
func (r *Relay) Pauses() uint64 { return r.pauses.Load() }

// age is how old a connection may get; 0: any age. It is drawn anew for each, from four fifths of the limit up, so that connections
// made together, after a restart, do not end together.
func (l *Limits) age() time.Duration {
	if l.MaxAge == 0 {
		return 0
	}
	return l.MaxAge*4/5 + rand.N(l.MaxAge/5+1)
}
