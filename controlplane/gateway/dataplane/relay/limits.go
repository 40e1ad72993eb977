// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"
)

// Budget bounds the connections of the listeners that share it to a part of those that the relay may have, so that a crowd at one
// door leaves room at another.
type Budget struct {
	share float64
	open  atomic.Int64
}

// NewBudget returns a budget of share (more than 0, at most 1) of the connections of a relay.
func NewBudget(share float64) *Budget { return &Budget{share: share} }

// Open is the number of connections that are counted in.
func (b *Budget) Open() int64 { return b.open.Load() }

// Capacity is how many connections may be open now, over all listeners.
func (r *Relay) Capacity() int64 {
	if limit := r.options.MaxConnections; limit > 0 {
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
	b := n.options.Budget
	if b != nil && b.open.Add(1) > int64(b.share*float64(capacity)) {
		b.open.Add(-1)
		r.active.Add(-1)
		return false
	}
	return true
}

// leave counts a connection out.
func (r *Relay) leave(n *Listener) {
	if b := n.options.Budget; b != nil {
		b.open.Add(-1)
	}
	r.active.Add(-1)
}

// pendingPerLoop is how many connections of one loop may be without their ClientHello. A client of good will sends it at once, so of
// too many the oldest is the one to be given up.
func (r *Relay) pendingPerLoop() int {
	limit := r.options.MaxPending
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
func (o *Options) age() time.Duration {
	if o.MaxAge == 0 {
		return 0
	}
	return o.MaxAge*4/5 + rand.N(o.MaxAge/5+1)
}

// proxy says whether source is a load balancer that begins its connections with a PROXY protocol header.
func (o *Options) proxy(source netip.Addr) bool {
	for _, p := range o.Proxies {
		if p.Contains(source) {
			return true
		}
	}
	return false
}
