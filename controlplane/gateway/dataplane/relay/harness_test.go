// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// static is a policy that sends everybody to the same addresses, one after the other.
type static struct {
	group    atomic.Pointer[Group]
	upstream []netip.AddrPort
	timeout  time.Duration
	refusal  *Refusal
	meter    Meter

	mu       sync.Mutex
	incoming Incoming // of the last connection routed
	failures []error
	done     chan Summary
	rejected chan Reason
}

func newStatic(upstream ...netip.AddrPort) *static {
	p := &static{
		upstream: upstream, timeout: 10 * time.Second,
		done: make(chan Summary, 4096), rejected: make(chan Reason, 16384),
	}
	p.group.Store(new(Group))
	return p
}

func (p *static) Route(in Incoming) (Flow, *Refusal) {
	p.mu.Lock()
	p.incoming = in
	p.mu.Unlock()
	if p.refusal != nil {
		return nil, p.refusal
	}
	return &staticFlow{policy: p}, nil
}

func (p *static) last() Incoming {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.incoming
}

func (p *static) Rejected(_ Incoming, why Reason) { p.rejected <- why }

type staticFlow struct {
	policy *static
	tried  int
}

func (f *staticFlow) Group() *Group { return f.policy.group.Load() }

func (f *staticFlow) Next(failed error) (netip.AddrPort, time.Duration, bool) {
	if failed != nil {
		f.policy.mu.Lock()
		f.policy.failures = append(f.policy.failures, failed)
		f.policy.mu.Unlock()
	}
	if f.tried == len(f.policy.upstream) {
		return netip.AddrPort{}, 0, false
	}
	f.tried++
	return f.policy.upstream[f.tried-1], f.policy.timeout, true
}

func (f *staticFlow) Meter() *Meter  { return &f.policy.meter }
func (f *staticFlow) Done(s Summary) { f.policy.done <- s }

// start runs a relay for policy with one listener and returns its address.
func start(t testing.TB, policy Policy, options Options) (*Relay, netip.AddrPort) {
	t.Helper()
	r, err := New(policy, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	l, err := r.Listen(netip.MustParseAddrPort("127.0.0.1:0"), nil, ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r, l.Addr
}

// backend accepts connections, takes the ClientHello off each and hands them to serve.
func backend(t testing.TB, serve func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				if _, err := io.ReadFull(c, make([]byte, len(greetingBytes()))); err == nil {
					serve(c.(*net.TCPConn))
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// dial connects to a relay and sends a ClientHello.
func dial(t testing.TB, addr netip.AddrPort) *net.TCPConn {
	t.Helper()
	c := dialRaw(t, addr)
	if _, err := c.Write(greetingBytes()); err != nil {
		t.Fatal(err)
	}
	return c
}

func dialRaw(t testing.TB, addr netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

type sink struct {
	net.Conn
	out bytes.Buffer
}

func (s *sink) Read([]byte) (int, error)    { return 0, io.EOF }
func (s *sink) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s *sink) Close() error                { return nil }

// greetingBytes is what a real client sends first; always the same bytes in one process.
var greetingBytes = sync.OnceValue(func() []byte {
	s := new(sink)
	if err := tls.Client(s, &tls.Config{ServerName: "c1.example"}).Handshake(); !errors.Is(err, io.EOF) {
		panic(err)
	}
	return s.out.Bytes()
})

// descriptors counts the open files of this process whose target starts with kind: "socket:", "pipe:".
func descriptors(t testing.TB, kind string) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(target, kind) {
			n++
		}
	}
	return n
}

// ping has one byte go around.
func ping(t testing.TB, c net.Conn) {
	t.Helper()
	one := []byte{'x'}
	if _, err := c.Write(one); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, one); err != nil {
		t.Fatal(err)
	}
}

func echo(c *net.TCPConn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}
