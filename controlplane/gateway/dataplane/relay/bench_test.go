// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"io"
	"net"
	"net/netip"
	"testing"
)

// Each benchmark runs the same traffic through this relay, through the usual relay in Go (two goroutines
// with io.Copy per connection) and, when it is installed, through HAProxy, every one in a process of
// its own with one thread of work. cpu-ns/op is the processor time of that process alone, so it
// says the same on a busy machine; ns/op does not.

// BenchmarkConnection opens a connection, sends a ClientHello, gets 128 bytes and closes.
func BenchmarkConnection(b *testing.B) {
	answer := make([]byte, 128)
	to := backend(b, func(c *net.TCPConn) { _, _ = c.Write(answer) })
	throughEach(b, to, func(b *testing.B, p *peer) {
		buf := make([]byte, len(answer))
		p.measure(b, func() {
			c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(p.addr))
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

// BenchmarkPing sends 128 bytes there and back.
func BenchmarkPing(b *testing.B) {
	throughEach(b, backend(b, echo), func(b *testing.B, p *peer) {
		c := dial(b, p.addr)
		buf := make([]byte, 128)
		p.measure(b, func() {
			_, _ = c.Write(buf)
			if _, err := io.ReadFull(c, buf); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkStream moves 64 MiB to the client.
func BenchmarkStream(b *testing.B) {
	const size = 64 << 20
	block := make([]byte, 256<<10)
	to := backend(b, func(c *net.TCPConn) {
		start := make([]byte, 1)
		for _, err := c.Read(start); err == nil; _, err = c.Read(start) {
			for range size / len(block) {
				if _, err := c.Write(block); err != nil {
					return
				}
			}
		}
	})
	throughEach(b, to, func(b *testing.B, p *peer) {
		c := dial(b, p.addr)
		buf := make([]byte, 256<<10)
		b.SetBytes(size)
		p.measure(b, func() {
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

// BenchmarkIdle reports what a connection that has carried some bytes holds while nothing happens:
// resident memory (B/conn) and descriptors (fd/conn).
func BenchmarkIdle(b *testing.B) {
	const connections = 2000
	throughEach(b, backend(b, echo), func(b *testing.B, p *peer) {
		for first := true; b.Loop(); first = false {
			if !first {
				continue // the process has its memory now
			}
			memory, files := p.resident(b), p.descriptors(b)
			conns := make([]net.Conn, connections)
			for i := range conns {
				conns[i] = dial(b, p.addr)
				ping(b, conns[i])
			}
			b.ReportMetric(float64(p.resident(b)-memory)/connections, "B/conn")
			b.ReportMetric(float64(p.descriptors(b)-files)/connections, "fd/conn")
			for _, c := range conns {
				_ = c.Close()
			}
		}
	})
}

// throughEach runs f against every peer that there is.
func throughEach(b *testing.B, to netip.AddrPort, f func(*testing.B, *peer)) {
	for _, kind := range []string{peerRelay, peerGoroutines, peerHAProxy} {
		b.Run(kind, func(b *testing.B) { f(b, startPeer(b, kind, to)) })
	}
}
