// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// clients is how many open connections at the same time, where the cost of one is measured.
const clients = 16

// rounds calls f for every proxy in turn, n times after one turn that is forgotten.
func (b *bench) rounds(n int, f func(name string, p *proxy, keep bool) error) error {
	for round := range n + 1 {
		for _, name := range b.order {
			if err := b.ctx.Err(); err != nil {
				return err
			}
			p := b.proxies[name]
			if err := f(name, p, round > 0); err != nil {
				return fmt.Errorf("%s: %w\n%s", name, err, p.complaint())
			}
		}
	}
	return nil
}

// connectionCost is the processor time for a connection that is opened, sends a ClientHello, gets 128 bytes and is closed.
func (b *bench) connectionCost() error {
	crowd, alone := map[string][]float64{}, map[string][]float64{}
	err := b.rounds(b.scale.rounds, func(name string, p *proxy, keep bool) error {
		many, err := p.per(float64(b.scale.connections), func() error { return b.connect(p.addr, b.scale.connections, clients) })
		if err != nil {
			return err
		}
		few := b.scale.connections / 4
		one, err := p.per(float64(few), func() error { return b.connect(p.addr, few, 1) })
		if keep {
			crowd[name], alone[name] = append(crowd[name], many), append(alone[name], one)
		}
		return err
	})
	if err != nil {
		return err
	}
	report("gateway-cpu-per-connection", "us", goal{ratio: 1}, crowd)
	report("gateway-cpu-per-connection-alone", "us", goal{}, alone)
	return nil
}

// per is the processor time of p in microseconds that f takes, by n.
func (p *proxy) per(n float64, f func() error) (float64, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := p.cpu()
	return float64((after - before).Nanoseconds()) / 1e3 / n, err
}

// connect opens and closes n connections, from several clients at once.
func (b *bench) connect(to netip.AddrPort, n, clients int) error {
	errs := make(chan error, clients)
	for range clients {
		go func() {
			for range n / clients {
				c, err := open(to, b.hello)
				if err != nil {
					errs <- err
					return
				}
				_ = c.Close()
			}
			errs <- nil
		}()
	}
	for range clients {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// streamCost is the processor time to pass a GiB to a client.
func (b *bench) streamCost() error {
	cost := map[string][]float64{}
	err := b.rounds(b.scale.rounds, func(name string, p *proxy, keep bool) error {
		c, err := open(p.addr, b.hello)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		us, err := p.per(float64(b.scale.mebibytes)/1024, func() error {
			for range b.scale.mebibytes << 20 / streamBlock {
				_ = c.SetDeadline(time.Now().Add(patience))
				if _, err := c.Write([]byte{streamCommand}); err != nil {
					return err
				}
				if err := discard(c, streamBlock); err != nil {
					return err
				}
			}
			return nil
		})
		if keep {
			cost[name] = append(cost[name], us/1e3)
		}
		return err
	})
	if err != nil {
		return err
	}
	report("gateway-cpu-per-gib", "ms", goal{ratio: 0.8}, cost)
	return nil
}

var waste = sync.Pool{New: func() any { return new([256 << 10]byte) }}

func discard(c *net.TCPConn, n int) error {
	buf := waste.Get().(*[256 << 10]byte)
	defer waste.Put(buf)
	for n > 0 {
		m, err := c.Read(buf[:min(n, len(buf))])
		if err != nil {
			return err
		}
		n -= m
	}
	return nil
}

// latency is the time 128 bytes take there and back, beside the same without a proxy. Which processors the scheduler has
// put the three processes on makes more of a difference than which proxy it is, so there are many short rounds.
func (b *bench) latency() error {
	added, p99 := map[string][]float64{}, map[string][]float64{}
	err := b.rounds(b.scale.samples, func(name string, p *proxy, keep bool) error {
		direct, _, err := b.roundTrips(b.backend)
		if err != nil {
			return err
		}
		half, tail, err := b.roundTrips(p.addr)
		if keep {
			added[name], p99[name] = append(added[name], half-direct), append(p99[name], tail)
		}
		return err
	})
	if err != nil {
		return err
	}
	report("gateway-added-latency-p50", "us", goal{value: 20}, added)
	report("gateway-latency-p99", "us", goal{ratio: 2}, p99)
	return nil
}

func (b *bench) roundTrips(to netip.AddrPort) (p50, p99 float64, err error) {
	c, err := open(to, b.hello)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = c.Close() }()
	var buf [answerSize]byte
	times := make([]time.Duration, b.scale.pings)
	for i := range times {
		start := time.Now()
		if err := ping(c, &buf); err != nil {
			return 0, 0, err
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	return us(times[len(times)/2]), us(times[len(times)*99/100]), nil
}

// idleCost is what a connection that carried a few bytes holds while nothing happens. Memory of a process does not shrink when
// connections end, so every proxy is asked once, fresh.
func (b *bench) idleCost() error {
	memory, files, held := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	for _, name := range b.order {
		if err := b.restart(name); err != nil {
			return err
		}
		p := b.proxies[name]
		bytes, fds, alive, err := b.hold(p)
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", name, err, p.complaint())
		}
		memory[name], files[name], held[name] = []float64{bytes}, []float64{fds}, []float64{alive}
	}
	report("gateway-idle-memory", "B/connection", goal{value: 4096}, memory)
	report("gateway-idle-descriptors", "1/connection", goal{value: 2.01}, files)
	text, verdict := fmt.Sprintf(">=%d", b.scale.idle), "ok"
	if held[ours][0] < float64(b.scale.idle) {
		verdict = "short"
	}
	for _, peer := range []string{haproxy, nginx} {
		fmt.Printf("BENCH gateway-idle-held %.0f connections %s %.0f %.2f %s %s\n", held[ours][0], peer, held[peer][0], held[ours][0]/held[peer][0], text, verdict)
	}
	return nil
}

// hold opens connections, compares p when it has half of them and when it has all, which leaves out what it has in reserve, and counts
// those that still answer.
func (b *bench) hold(p *proxy) (bytes, files, alive float64, err error) {
	conns, err := b.openMany(p.addr, b.scale.idle/2)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	if err != nil {
		return 0, 0, 0, err
	}
	memory, open0, err := p.holds()
	if err != nil {
		return 0, 0, 0, err
	}
	half := len(conns)
	more, err := b.openMany(p.addr, b.scale.idle-half)
	conns = append(conns, more...)
	if err != nil {
		return 0, 0, 0, err
	}
	after, open1, err := p.holds()
	n := float64(len(conns) - half)
	return (after - memory) / n, (open1 - open0) / n, float64(answering(conns)), err
}

// holds is the memory and the number of descriptors of a process.
func (p *process) holds() (memory, files float64, err error) {
	if memory, err = p.resident(); err != nil {
		return 0, 0, err
	}
	files, err = p.files()
	return memory, files, err
}

// openMany opens n connections and has each carry something.
func (b *bench) openMany(to netip.AddrPort, n int) ([]*net.TCPConn, error) {
	conns := make([]*net.TCPConn, 0, n)
	var buf [answerSize]byte
	for range n {
		c, err := open(to, b.hello)
		if err != nil {
			return conns, fmt.Errorf("connection %d: %w", len(conns)+1, err)
		}
		conns = append(conns, c)
		if err := ping(c, &buf); err != nil {
			return conns, fmt.Errorf("connection %d: %w", len(conns), err)
		}
	}
	return conns, nil
}

// answering counts the connections that still carry bytes.
func answering(conns []*net.TCPConn) int {
	n := 0
	var buf [answerSize]byte
	for _, c := range conns {
		_ = c.SetDeadline(time.Now().Add(patience))
		if ping(c, &buf) == nil {
			n++
		}
	}
	return n
}
