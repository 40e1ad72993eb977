// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Limits of what clients that nobody knows yet may cost. A connection takes some 40 KiB and, for its handshake, less than a
// millisecond of processor time. A tenant's share keeps a crowd at one tenant from locking others out; in the crowd all wait alike.
const (
	maxConnections       = 1024
	maxTenantConnections = 256
	perSecond            = 500
	perTenantSecond      = 100
	// burst is how many seconds' worth may come at once.
	burst = 2
	// longest is how long a connection may have to wait for its handshake; clients have more patience.
	longest = 3 * time.Second
)

// gate counts connections. The zero time in a bucket is long ago, so that it begins full.
type gate struct {
	mu      sync.Mutex
	open    int
	all     bucket
	tenants map[types.NamespacedName]*share
	swept   time.Time
}

// share is what one tenant has of the gate.
type share struct {
	open int
	rate bucket
}

func newGate() *gate { return &gate{tenants: map[types.NamespacedName]*share{}} }

// bucket is a token bucket, of which tokens may be taken in advance.
type bucket struct {
	tokens float64
	filled time.Time
}

// take takes a token that is there after the wait at the latest, or none.
func (b *bucket) take(rate float64, longest time.Duration, now time.Time) (wait time.Duration, ok bool) {
	b.tokens = min(b.tokens+rate*now.Sub(b.filled).Seconds(), rate*burst)
	b.filled = now
	wait = max(time.Duration((1-b.tokens)/rate*float64(time.Second)), 0)
	if wait > longest {
		return 0, false
	}
	b.tokens--
	return wait, true
}

// accept counts a connection in, unless there are too many.
func (g *gate) accept() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open >= maxConnections {
		refused.WithLabelValues(refusedLimit).Inc()
		return false
	}
	g.open++
	connections.Set(float64(g.open))
	return true
}

// enter counts a connection for a tenant, once it has said which. The wait is until it is its turn.
func (g *gate) enter(tenant types.NamespacedName, now time.Time) (wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweep(now)
	s := g.tenants[tenant]
	if s == nil {
		s = &share{}
		g.tenants[tenant] = s
	}
	if s.open < maxTenantConnections {
		wait, ok = s.rate.take(perTenantSecond, longest, now)
	}
	if !ok {
		refused.WithLabelValues(refusedTenantLimit).Inc()
		return 0, false
	}
	others, ok := g.all.take(perSecond, longest, now)
	if !ok {
		refused.WithLabelValues(refusedLimit).Inc()
		return 0, false
	}
	s.open++
	return max(wait, others), true
}

// sweep forgets tenants of which nothing is open and that nobody has asked for; seldom, since it looks at all that are known.
func (g *gate) sweep(now time.Time) {
	if now.Sub(g.swept) < time.Minute {
		return
	}
	g.swept = now
	for name, s := range g.tenants {
		if s.open == 0 && now.Sub(s.rate.filled) > burst*time.Second {
			delete(g.tenants, name)
		}
	}
}

// leave counts a connection out, and for its tenant if it has entered.
func (g *gate) leave(tenant types.NamespacedName) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	connections.Set(float64(g.open))
	if s := g.tenants[tenant]; s != nil && tenant.Name != "" {
		s.open--
	}
}

// gated is a listener whose connections are counted.
type gated struct {
	net.Listener
	gate *gate
}

// Accept implements net.Listener. A connection that is too much is closed at once: to leave it waiting would keep those behind it from being
// served, and gateways from trying another activator.
func (g *gated) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if g.gate.accept() {
			return &connection{Conn: c, gate: g.gate}, nil
		}
		_ = c.Close()
	}
}

// connection is counted until it is closed, and for its tenant once the handshake has told it.
type connection struct {
	net.Conn
	gate   *gate
	mu     sync.Mutex
	tenant types.NamespacedName
	closed bool
}

// enter counts the connection for a tenant, and waits for its turn.
func (c *connection) enter(ctx context.Context, tenant types.NamespacedName) error {
	wait, ok := c.count(tenant)
	if !ok {
		return errors.New("too many connections")
	}
	if wait == 0 {
		return nil
	}
	turn := time.NewTimer(wait)
	defer turn.Stop()
	select {
	case <-turn.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *connection) count(tenant types.NamespacedName) (wait time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.tenant.Name != "" {
		return 0, false
	}
	if wait, ok = c.gate.enter(tenant, time.Now()); ok {
		c.tenant = tenant
	}
	return wait, ok
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		c.gate.leave(c.tenant)
	}
	c.mu.Unlock()
	return c.Conn.Close()
}
