// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"errors"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/handover"
)

// cookies identify the listening sockets of a gateway, whichever process or descriptor they are reached by.
func cookies(t *testing.T, g *Gateway) map[netip.AddrPort]uint64 {
	t.Helper()
	g.configMu.Lock()
	defer g.configMu.Unlock()
	sockets, err := g.listeners.sockets()
	if err != nil {
		t.Fatal(err)
	}
	defer sockets.Close()
	out := map[netip.AddrPort]uint64{}
	for addr, fd := range sockets {
		if out[addr], err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func (g *Gateway) offers() bool {
	g.succession.mu.Lock()
	defer g.succession.mu.Unlock()
	return g.succession.server != nil
}

// TestRestartLosesNoConnectionAttempt replaces the gateway again and again under clients that connect without a pause.
func TestRestartLosesNoConnectionAttempt(t *testing.T) {
	w := newWorld(t)
	n := w.newTenant(t, "a")
	long := 60
	w.config.DrainSeconds = &long
	w.config.HandoverSocket = filepath.Join(t.TempDir(), "handover")
	g, end := w.start(t, n)
	until(t, "sockets are offered", g.offers)

	var clients sync.WaitGroup
	var stop atomic.Bool
	var served atomic.Int64
	for _, addr := range []netip.AddrPort{w.public(), w.private(), w.own(n)} {
		clients.Go(func() {
			for !stop.Load() {
				c, _, err := n.dial(t, addr, n.Hostname)
				if err != nil {
					t.Errorf("connecting to %s: %v", addr, err)
					return
				}
				_ = c.Close()
				served.Add(1)
			}
		})
	}
	first := cookies(t, g)
	for range 3 {
		next, endNext := w.start(t, n)
		end() // waits until its last connection is done
		if got := cookies(t, next); len(got) != 3 || got[w.public()] != first[w.public()] || got[w.private()] != first[w.private()] || got[w.own(n)] != first[w.own(n)] {
			t.Errorf("the new process listens on sockets %v, the first on %v", got, first)
		}
		before := served.Load()
		until(t, "clients are served by the new process", func() bool { return served.Load() > before+20 })
		until(t, "its sockets are offered", next.offers)
		end = endNext
	}
	stop.Store(true)
	clients.Wait()
}

// TestSuccessorOpensWhatIsNew: a tenant that comes while two processes share the sockets is the new one's alone.
func TestSuccessorOpensWhatIsNew(t *testing.T) {
	w := newWorld(t)
	w.config.HandoverSocket = filepath.Join(t.TempDir(), "handover")
	a := w.newTenant(t, "a")
	old, _ := w.start(t, a)
	until(t, "sockets are offered", old.offers)
	next, endNext := w.start(t, a)
	b := w.newTenant(t, "b")
	until(t, "the tenant is served", func() bool { return old.routes.Len() == 2*routesPerTenant && next.routes.Len() == 2*routesPerTenant })
	b.must(t, w.own(b), inCluster)
	if n := len(cookies(t, old)); n != 3 {
		t.Errorf("the old process listens on %d addresses", n)
	}
	endNext()
	until(t, "the old process opens it when the other has left", func() bool { return len(cookies(t, old)) == 4 })
	b.must(t, w.own(b), inCluster)
}

func TestSuccessorEndsAProcessThatIsToLeave(t *testing.T) {
	w := newWorld(t)
	w.config.HandoverSocket = filepath.Join(t.TempDir(), "handover")
	long := 60
	w.config.DrainSeconds = &long // what the old process has accepted last is served by it
	n := w.newTenant(t, "a")
	old, _ := w.start(t, n)
	until(t, "sockets are offered", old.offers)
	left, err := old.Leave()
	if err != nil {
		t.Fatal(err)
	}
	w.start(t, n)
	until(t, "the old process drains", old.draining.Load)
	<-left
	_ = n.must(t, w.public(), n.Hostname).Close() // or the old process waits for it to end
}

func TestNobodyToTakeOverFrom(t *testing.T) {
	if _, _, err := handover.Take(filepath.Join(t.TempDir(), "nobody")); !errors.Is(err, handover.ErrNobody) {
		t.Errorf("%v", err)
	}
	if _, _, err := handover.Take("@kamaji-gateway-test-nobody"); !errors.Is(err, handover.ErrNobody) {
		t.Errorf("%v", err)
	}
}
