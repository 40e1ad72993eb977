// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTooManyConnections(t *testing.T) {
	p := newStatic(backend(t, echo))
	_, addr := start(t, p, Options{Limits: Limits{MaxConnections: 1}})
	c := dial(t, addr)
	ping(t, c)
	if got, err := io.ReadAll(dial(t, addr)); string(got) != string(alert(80)) || err != nil {
		t.Errorf("the client reads %q, %v, want the alert internal_error", got, err)
	}
	if why := <-p.rejected; why != Overload {
		t.Errorf("reason %s", why)
	}
	ping(t, c)
}

func TestDrainWaitsForConnections(t *testing.T) {
	p := newStatic(backend(t, echo))
	r, addr := start(t, p, Options{})
	c := dial(t, addr)
	ping(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	drained := make(chan error, 1)
	go func() { drained <- r.Drain(ctx) }()
	for { // until the listener is closed
		n, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
		if err != nil {
			break
		}
		_ = n.Close()
	}
	ping(t, c)
	cancel()
	if err := <-drained; !errors.Is(err, context.Canceled) {
		t.Errorf("drain: %v", err)
	}
	if s := <-p.done; s.Reason != Shutdown {
		t.Errorf("reason %s", s.Reason)
	}
	if _, err := r.Listen(netip.MustParseAddrPort("127.0.0.1:0"), nil, ListenOptions{}); !errors.Is(err, errClosed) {
		t.Errorf("listening after the shutdown: %v", err)
	}
}

func TestUnlistenKeepsConnections(t *testing.T) {
	p := newStatic(backend(t, echo))
	r, _ := start(t, p, Options{})
	l, err := r.Listen(netip.MustParseAddrPort("127.0.0.1:0"), "tag", ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, l.Addr)
	ping(t, c)
	r.Unlisten(l)
	r.Unlisten(l)
	again, err := r.Listen(l.Addr, nil, ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ping(t, c)
	ping(t, dial(t, again.Addr))
}

func TestListenOnAnAddressOfAnotherHost(t *testing.T) {
	p := newStatic()
	r, _ := start(t, p, Options{})
	for _, addr := range []string{"192.0.2.1:0", "[2001:db8::1]:0"} { // documentation ranges
		l, err := r.Listen(netip.MustParseAddrPort(addr), nil, ListenOptions{})
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			t.Errorf("%v", err)
		} else if err == nil && l.Addr.Addr() != netip.MustParseAddrPort(addr).Addr() {
			t.Errorf("listening on %s instead of %s", l.Addr, addr)
		}
	}
}
