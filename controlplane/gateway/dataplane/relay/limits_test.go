// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHalfOpenConnectionsStarveNobody: many clients send the beginning of a ClientHello and no more. As many as there may be are kept,
// the oldest go, and others get through at once.
func TestHalfOpenConnectionsStarveNobody(t *testing.T) {
	const pending, crowd = 64, 10000
	p := newStatic(backend(t, echo))
	r, addr := start(t, p, Options{Loops: 1, Limits: Limits{MaxPending: pending}, HelloTimeout: time.Hour})
	old := dial(t, addr)
	ping(t, old)
	slow := make([]*net.TCPConn, crowd)
	for i := range slow {
		c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := c.Write(greetingBytes()[:100]); err != nil {
			t.Fatal(err)
		}
		slow[i] = c
		if i%500 == 0 {
			ping(t, dial(t, addr))
		}
	}
	for _, c := range slow[:crowd-pending] { // ends only when the relay closes
		_, _ = io.ReadAll(c)
		if why := <-p.rejected; why != HelloCrowded {
			t.Fatalf("reason %s", why)
		}
	}
	ping(t, dial(t, addr))
	ping(t, old)
	if n := r.Active(); n > pending+2+crowd/500 {
		t.Errorf("%d connections are open", n)
	}
	// One of those that were kept is still served when it goes on.
	last := slow[crowd-1]
	if _, err := last.Write(greetingBytes()[100:]); err != nil {
		t.Fatal(err)
	}
	ping(t, last)
}

func TestOneDoorLeavesRoomForAnother(t *testing.T) {
	p := newStatic(backend(t, echo))
	r, err := New(p, Options{Limits: Limits{MaxConnections: 10}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	var addrs [2]netip.AddrPort
	var doors [2]*Door
	for i := range addrs {
		doors[i] = NewDoor(0.8)
		l, err := r.Listen(netip.MustParseAddrPort("127.0.0.1:0"), nil, ListenOptions{Door: doors[i]})
		if err != nil {
			t.Fatal(err)
		}
		addrs[i] = l.Addr
	}
	var crowd []*net.TCPConn
	for range 8 {
		c := dial(t, addrs[0])
		ping(t, c)
		crowd = append(crowd, c)
	}
	if got, _ := io.ReadAll(dial(t, addrs[0])); string(got) != string(alert(80)) {
		t.Errorf("over the share of its door the client reads %q", got)
	}
	if why := <-p.rejected; why != Overload {
		t.Errorf("reason %s", why)
	}
	for range 2 {
		ping(t, dial(t, addrs[1]))
	}
	if got, _ := io.ReadAll(dial(t, addrs[1])); string(got) != string(alert(80)) {
		t.Errorf("over the limit of all the client reads %q", got)
	}
	_ = crowd[0].Close()
	<-p.done
	if doors[0].Open() != 7 || doors[1].Open() != 2 {
		t.Errorf("%d and %d connections are counted", doors[0].Open(), doors[1].Open())
	}
	ping(t, dial(t, addrs[0]))
	r.SetLimits(Limits{MaxConnections: 20}) // it counts at once, and nobody has to leave
	for range 8 {
		ping(t, dial(t, addrs[1]))
	}
	r.SetLimits(Limits{MaxConnections: 2})
	if got, _ := io.ReadAll(dial(t, addrs[1])); string(got) != string(alert(80)) {
		t.Errorf("over the new limit the client reads %q", got)
	}
	ping(t, crowd[1])
}

func TestConnectionsEndAtTheirAge(t *testing.T) {
	p := newStatic(backend(t, echo))
	_, addr := start(t, p, Options{Limits: Limits{MaxAge: 200 * time.Millisecond}})
	c := dial(t, addr)
	ping(t, c)
	_, _ = io.ReadAll(c) // ends only when the relay closes
	if s := <-p.done; s.Reason != TooOld || s.Duration < 160*time.Millisecond {
		t.Errorf("summary %+v", s)
	}
}

// TestLastingConnectionsAreKeptAlive looks at the options of an upstream socket after it has settled.
func TestLastingConnectionsAreKeptAlive(t *testing.T) {
	p := newStatic(backend(t, echo))
	r, addr := start(t, p, Options{Loops: 1})
	ping(t, dial(t, addr))
	got := make(chan [3]int, 1)
	l := r.loops[0]
	l.post(func() {
		l.settlers.expire(l.now.Add(settleTime), l.settle)
		for _, c := range l.conns {
			var o [3]int
			o[0], _ = unix.GetsockoptInt(int(c.client.fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
			o[1], _ = unix.GetsockoptInt(int(c.upstream.fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
			o[2], _ = unix.GetsockoptInt(int(c.upstream.fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
			got <- o
		}
	})
	if o := <-got; o != [3]int{keepIdle, 1, keepIdle} {
		t.Errorf("keepalive of the client after %d s; of the upstream: %d, after %d s", o[0], o[1], o[2])
	}
}

func TestLoadBalancersNameTheirClients(t *testing.T) {
	const header = "PROXY TCP4 192.0.2.7 10.0.0.1 40000 6443\r\n"
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, tc := range []struct {
		name, send, client string
		proxies            []netip.Prefix
		reason             Reason
	}{
		{"listed", header, "192.0.2.7:40000", loopback, ""},
		{"listed, without a header", "", "", loopback, BadProxyHeader},
		{"listed, with a broken header", "PROXY TCP4 nowhere\r\n", "", loopback, BadProxyHeader},
		{"listed, for itself", "PROXY UNKNOWN\r\n", "127.0.0.1", loopback, ""},
		{"not listed, without a header", "", "127.0.0.1", nil, ""},
		{"not listed, with a header", header, "", []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, NotTLS},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newStatic(backend(t, echo))
			r, _ := start(t, p, Options{})
			door := NewDoor(1)
			l, err := r.Listen(netip.MustParseAddrPort("127.0.0.1:0"), nil, ListenOptions{Door: door})
			if err != nil {
				t.Fatal(err)
			}
			door.SetProxies(tc.proxies) // of an open listener
			c := dialRaw(t, l.Addr)
			for _, piece := range []string{tc.send[:len(tc.send)/2], tc.send[len(tc.send)/2:], string(greetingBytes()[:10]), string(greetingBytes()[10:])} {
				_, _ = io.WriteString(c, piece)
			}
			if tc.reason != "" {
				if why := <-p.rejected; why != tc.reason {
					t.Errorf("reason %s, want %s", why, tc.reason)
				}
				return
			}
			ping(t, c)
			in := p.last()
			if got := in.Client.String(); got != tc.client && in.Client.Addr().String() != tc.client {
				t.Errorf("client %s, want %s", got, tc.client)
			}
			if named := in.Via.IsValid(); named != (in.Client.Port() == 40000 && tc.send == header) {
				t.Errorf("via %s", in.Via)
			}
		})
	}
}

// TestListenersRestWithoutDescriptors: a connection that comes while the process has no descriptor for it is served when there is one.
func TestListenersRestWithoutDescriptors(t *testing.T) {
	p := newStatic(backend(t, echo))
	r, addr := start(t, p, Options{Loops: 1})
	ping(t, dial(t, addr)) // everything that is opened once is open
	fd, err := newSocket(addr.Addr())
	if err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	restore := func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) }
	t.Cleanup(restore)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, sockaddr(addr)); err != nil && err != unix.EINPROGRESS {
		t.Fatal(err)
	}
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	giveUp := time.After(time.Minute)
	for sent := false; r.Pauses() == 0; {
		select {
		case <-poll.C:
			if !sent { // not before the handshake is done
				n, _ := write(int32(fd), greetingBytes())
				sent = n > 0
			}
		case <-giveUp:
			t.Fatal("the listener never rested")
		}
	}
	restore()
	file := os.NewFile(uintptr(fd), "client")
	t.Cleanup(func() { _ = file.Close() })
	c, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ping(t, c)
}
