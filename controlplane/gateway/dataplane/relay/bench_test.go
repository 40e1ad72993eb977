// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The benchmarks run client, relay and backend in one process. What the relay itself costs is the
// difference to "direct"; "goroutines" is the usual relay in Go, two goroutines with io.Copy per
// connection, for comparison. Wall time depends on what else the machine does: see cpu-ns/op.

// ways returns the addresses to reach a backend by.
func ways(b *testing.B, to netip.AddrPort) []struct {
	name string
	addr netip.AddrPort
} {
	_, addr := start(b, newSilent(to), Options{})
	return []struct {
		name string
		addr netip.AddrPort
	}{{"direct", to}, {"goroutines", goroutines(b, to)}, {"relay", addr}}
}

// newSilent is newStatic without anybody to read the outcomes.
func newSilent(to netip.AddrPort) *silent { return &silent{group: new(Group), to: to} }

type silent struct {
	group *Group
	to    netip.AddrPort
}

func (p *silent) Route(Incoming) (Flow, *Refusal) { return &silentFlow{policy: p}, nil }
func (p *silent) Rejected(Incoming, Reason)       {}

type silentFlow struct {
	policy *silent
	tried  bool
}

func (f *silentFlow) Group() *Group { return f.policy.group }
func (f *silentFlow) Done(Summary)  {}

func (f *silentFlow) Next(error) (netip.AddrPort, time.Duration, bool) {
	first := !f.tried
	f.tried = true
	return f.policy.to, time.Second, first
}

// goroutines relays the way net/http/httputil and most others do.
func goroutines(b *testing.B, to netip.AddrPort) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = in.Close() }()
				out, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
				if err != nil {
					return
				}
				defer func() { _ = out.Close() }()
				done := make(chan struct{})
				go func() {
					defer close(done)
					_, _ = io.Copy(out, in)
					_ = out.CloseWrite()
				}()
				_, _ = io.Copy(in, out)
				_ = in.(*net.TCPConn).CloseWrite()
				<-done
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// cpu is the time that this process spent, in nanoseconds.
func cpu(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// measure runs op b.N times and reports processor time.
func measure(b *testing.B, op func()) {
	before := cpu(b)
	n := 0
	for b.Loop() {
		op()
		n++
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(n), "cpu-ns/op")
}

// BenchmarkConnection opens a connection, sends a ClientHello, gets 128 bytes and closes.
func BenchmarkConnection(b *testing.B) {
	answer := make([]byte, 128)
	for _, way := range ways(b, backend(b, func(c *net.TCPConn) { _, _ = c.Write(answer) })) {
		b.Run(way.name, func(b *testing.B) {
			buf := make([]byte, len(answer))
			measure(b, func() {
				c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(way.addr))
				if err != nil {
					b.Fatal(err)
				}
				_, _ = c.Write(greetingBytes())
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
				_ = c.Close()
			})
		})
	}
}

// BenchmarkPing sends 128 bytes there and back.
func BenchmarkPing(b *testing.B) {
	for _, way := range ways(b, backend(b, echo)) {
		b.Run(way.name, func(b *testing.B) {
			c := dial(b, way.addr)
			buf := make([]byte, 128)
			measure(b, func() {
				_, _ = c.Write(buf)
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkStream moves 64 MiB to the client.
func BenchmarkStream(b *testing.B) {
	const size = 64 << 20
	block := make([]byte, 256<<10)
	serve := func(c *net.TCPConn) {
		for _, err := c.Read(block[:1]); err == nil; _, err = c.Read(block[:1]) {
			for range size / len(block) {
				if _, err := c.Write(block); err != nil {
					return
				}
			}
		}
	}
	for _, way := range ways(b, backend(b, serve)) {
		b.Run(way.name, func(b *testing.B) {
			c := dial(b, way.addr)
			buf := make([]byte, 256<<10)
			b.SetBytes(size)
			measure(b, func() {
				_, _ = c.Write(buf[:1])
				for left := size; left > 0; {
					n, err := c.Read(buf[:min(left, len(buf))])
					if err != nil {
						b.Fatal(err)
					}
					left -= n
				}
			})
		})
	}
}

// BenchmarkIdle reports what an open connection that carried some bytes holds in this process: heap
// and stacks (B/conn), and descriptors (fd/conn). Subtract "direct", which is client and backend.
func BenchmarkIdle(b *testing.B) {
	const connections = 1000
	hold := make(chan struct{})
	b.Cleanup(func() { close(hold) })
	to := backend(b, func(c *net.TCPConn) {
		one := make([]byte, 1)
		_, _ = io.ReadFull(c, one)
		_, _ = c.Write(one)
		<-hold
	})
	for _, way := range ways(b, to) {
		b.Run(way.name, func(b *testing.B) {
			for b.Loop() {
				memory, files := inUse(), descriptors(b, "")
				conns := make([]net.Conn, connections)
				for i := range conns {
					c := dial(b, way.addr)
					ping(b, c)
					conns[i] = c
				}
				b.ReportMetric(float64(inUse()-memory)/connections, "B/conn")
				b.ReportMetric(float64(descriptors(b, "")-files)/connections, "fd/conn")
				for _, c := range conns {
					_ = c.Close()
				}
			}
		})
	}
}

func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
