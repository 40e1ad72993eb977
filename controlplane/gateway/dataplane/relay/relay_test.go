// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// random is an endless stream of bytes, the same for the same seed.
func random(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

func digest(t testing.TB, r io.Reader) (int64, [32]byte) {
	t.Helper()
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		t.Errorf("reading the stream: %v", err)
	}
	return n, [32]byte(h.Sum(nil))
}

func TestBothDirectionsAtOnce(t *testing.T) {
	const size = 24 << 20
	type outcome struct {
		n   int64
		sum [32]byte
	}
	atBackend := make(chan outcome, 1)
	p := newStatic(backend(t, func(c *net.TCPConn) {
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = io.CopyN(c, random(2), size)
			_ = c.CloseWrite()
		}()
		n, sum := digest(t, c)
		<-sent
		atBackend <- outcome{n, sum}
	}))
	_, addr := start(t, p, Options{})
	c := dial(t, addr)
	go func() {
		_, _ = io.CopyN(c, random(1), size)
		_ = c.CloseWrite()
	}()
	n, sum := digest(t, c)
	for _, d := range []struct {
		name string
		seed byte
		got  outcome
	}{{"to the backend", 1, <-atBackend}, {"to the client", 2, outcome{n, sum}}} {
		if n, sum := digest(t, io.LimitReader(random(d.seed), size)); d.got.n != n || d.got.sum != sum {
			t.Errorf("%s: %d bytes came, %d were sent; same content: %v", d.name, d.got.n, n, d.got.sum == sum)
		}
	}
	s := <-p.done
	if s.Reason != Finished || s.Sent != size+uint64(len(greetingBytes())) || s.Received != size {
		t.Errorf("summary %+v", s)
	}
}

func TestSlowReaderGetsEverything(t *testing.T) {
	const size = 32 << 20
	sent := make(chan struct{})
	p := newStatic(backend(t, func(c *net.TCPConn) {
		_, _ = io.CopyN(c, random(3), size/2)
		close(sent) // half of it is more than all buffers hold, so the client reads by now
		_, _ = io.CopyN(c, random(4), size/2)
	}))
	_, addr := start(t, p, Options{})
	c := dial(t, addr)
	n, got := digest(t, io.MultiReader(readSome(c, size/2), afterwards(sent, c)))
	_, want := digest(t, io.MultiReader(io.LimitReader(random(3), size/2), io.LimitReader(random(4), size/2)))
	if n != size || got != want {
		t.Errorf("%d bytes of %d came; same content: %v", n, size, got == want)
	}
}

// readSome reads n bytes of c in small pieces, which makes the sender wait all the time.
func readSome(c io.Reader, n int64) io.Reader {
	return struct{ io.Reader }{io.LimitReader(smallReads{c}, n)}
}

type smallReads struct{ io.Reader }

func (r smallReads) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(len(p), 1500)]) }

func afterwards(ready <-chan struct{}, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) { <-ready; return r.Read(p) })
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestHalfClose(t *testing.T) {
	t.Run("the client ends first", func(t *testing.T) {
		p := newStatic(backend(t, func(c *net.TCPConn) {
			request, _ := io.ReadAll(c)
			_, _ = c.Write(append([]byte("answer to "), request...))
		}))
		_, addr := start(t, p, Options{})
		c := dial(t, addr)
		_, _ = c.Write([]byte("request"))
		_ = c.CloseWrite()
		if got, err := io.ReadAll(c); string(got) != "answer to request" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if s := <-p.done; s.Reason != Finished {
			t.Errorf("reason %s", s.Reason)
		}
	})
	t.Run("the upstream ends first", func(t *testing.T) {
		got := make(chan string, 1)
		p := newStatic(backend(t, func(c *net.TCPConn) {
			_ = c.CloseWrite()
			rest, _ := io.ReadAll(c)
			got <- string(rest)
		}))
		_, addr := start(t, p, Options{})
		c := dial(t, addr)
		if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
		_, _ = c.Write([]byte("still here"))
		_ = c.Close()
		if s := <-got; s != "still here" {
			t.Errorf("the upstream got %q", s)
		}
	})
}

func TestBrokenConnections(t *testing.T) {
	t.Run("client", func(t *testing.T) {
		gone := make(chan error, 1)
		p := newStatic(backend(t, func(c *net.TCPConn) {
			_, _ = c.Write([]byte{1})
			_, err := io.Copy(io.Discard, c)
			gone <- err
		}))
		_, addr := start(t, p, Options{})
		c := dial(t, addr)
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.SetLinger(0)
		_ = c.Close()
		<-gone //nolint:errcheck // any end will do
		if s := <-p.done; s.Reason != ClientReset {
			t.Errorf("reason %s", s.Reason)
		}
	})
	t.Run("upstream, after its last words", func(t *testing.T) {
		p := newStatic(backend(t, func(c *net.TCPConn) {
			_, _ = c.Write([]byte("bye"))
			_, _ = io.ReadFull(c, make([]byte, 1)) // the client has read it
			_ = c.SetLinger(0)
		}))
		_, addr := start(t, p, Options{})
		c := dial(t, addr)
		if _, err := io.ReadFull(c, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte{1})
		_, _ = io.Copy(io.Discard, c)
		if s := <-p.done; s.Reason != UpstreamReset || s.Received != 3 {
			t.Errorf("summary %+v", s)
		}
	})
}

func TestConnectRetries(t *testing.T) {
	refusing := bound(t)
	silent := blackHole(t)
	p := newStatic(refusing, silent, backend(t, echo))
	p.timeout = 300 * time.Millisecond
	_, addr := start(t, p, Options{})
	ping(t, dial(t, addr))
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.failures) != 2 || !errors.Is(p.failures[0], unix.ECONNREFUSED) || !errors.Is(p.failures[1], ErrConnectTimeout) {
		t.Errorf("failures: %v", p.failures)
	}

	p = newStatic(refusing, refusing)
	_, addr = start(t, p, Options{})
	if _, err := io.ReadAll(dial(t, addr)); err != nil {
		t.Errorf("the client sees %v instead of the end", err)
	}
	if s := <-p.done; s.Reason != ConnectFailed {
		t.Errorf("reason %s", s.Reason)
	}
}

// bound is an address that refuses connections and that nobody else gets.
func bound(t *testing.T) netip.AddrPort {
	t.Helper()
	addr, _ := bind(t)
	return addr
}

// blackHole is an address that does not answer: a listener whose accept queue is full.
func blackHole(t *testing.T) netip.AddrPort {
	t.Helper()
	addr, fd := bind(t)
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	dialRaw(t, addr) // a queue of length 0 takes one
	return addr
}

func bind(t *testing.T) (netip.AddrPort, int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	return localAddr(int32(fd)), fd
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name, send, want string
		refusal          *Refusal
		reason           Reason
	}{
		{"unknown name", string(greetingBytes()), "\x15\x03\x03\x00\x02\x02\x70", &Refusal{Reason: "no_route", Alert: 112}, "no_route"},
		{"without an alert", string(greetingBytes()), "", &Refusal{Reason: "no_route"}, "no_route"},
		{"malformed", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03", "\x15\x03\x03\x00\x02\x02\x32", nil, HelloMalformed},
		{"HTTP", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.0 400 Bad Request", nil, NotTLS},
		{"SSH", "SSH-2.0-x\r\n", "", nil, NotTLS},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newStatic()
			p.refusal = tc.refusal
			r, addr := start(t, p, Options{})
			c := dialRaw(t, addr)
			_, _ = c.Write([]byte(tc.send))
			got, err := io.ReadAll(c)
			if err != nil || !strings.HasPrefix(string(got), tc.want) || tc.want == "" && len(got) > 0 {
				t.Errorf("the client reads %q, %v, want %q", got, err, tc.want)
			}
			if why := <-p.rejected; why != tc.reason {
				t.Errorf("reason %s", why)
			}
			_ = c.Close()
			if err := r.Drain(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSilentClientIsDropped(t *testing.T) {
	p := newStatic()
	_, addr := start(t, p, Options{HelloTimeout: 20 * time.Millisecond})
	for _, sent := range [][]byte{nil, greetingBytes()[:100]} {
		c := dialRaw(t, addr)
		_, _ = c.Write(sent)
		_, _ = io.ReadAll(c) // ends only when the relay closes
		if why := <-p.rejected; why != HelloTimeout {
			t.Errorf("reason %s", why)
		}
	}
}

func TestCloseGroupClosesOnlyItsConnections(t *testing.T) {
	p := newStatic(backend(t, echo))
	r, addr := start(t, p, Options{Loops: 3})
	var old []*net.TCPConn
	for range 30 {
		c := dial(t, addr)
		ping(t, c)
		old = append(old, c)
	}
	doomed := p.group.Load()
	_ = old[7].Close() // one from the middle of its list
	<-p.done
	p.group.Store(new(Group))
	kept := dial(t, addr)
	ping(t, kept)
	r.CloseGroup(doomed)
	for _, c := range slices.Delete(old, 7, 8) {
		_, _ = io.ReadAll(c)
		if s := <-p.done; s.Reason != GroupClosed {
			t.Errorf("reason %s", s.Reason)
		}
	}
	ping(t, kept)
	if n := r.Active(); n != 1 {
		t.Errorf("%d connections left", n)
	}
}

// TestIdleConnectionIsTwoDescriptors: of the four sockets per connection here, one is the client's and
// one the backend's.
func TestIdleConnectionIsTwoDescriptors(t *testing.T) {
	const connections = 100
	p := newStatic(backend(t, echo))
	r, addr := start(t, p, Options{})
	before := descriptors(t, "")
	conns := make([]*net.TCPConn, connections)
	for i := range conns {
		conns[i] = dial(t, addr)
		ping(t, conns[i])
	}
	if got := descriptors(t, "") - before; got != 4*connections {
		t.Errorf("%d idle connections hold %d descriptors, want 2 for the client and backend and 2 for the relay, each", connections, got)
	}
	// Streaming borrows pipes; what is left afterwards does not depend on the number of connections.
	for _, c := range conns {
		go func() { _, _ = io.CopyN(c, random(1), 2<<20) }()
		if _, err := io.CopyN(io.Discard, c, 2<<20); err != nil {
			t.Fatal(err)
		}
		ping(t, c)
	}
	if got, limit := descriptors(t, "pipe:"), 2*sparePipes*len(r.loops)+4; got > limit {
		t.Errorf("%d pipe ends are open after streaming, want at most %d", got, limit)
	}
}
