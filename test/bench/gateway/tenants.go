// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"time"
)

// manyTenants measures a gateway with many of them: what one costs in memory, and how soon a new one is reached while connections of
// others stay open.
func (b *bench) manyTenants() error {
	memory, err := b.tenantMemory()
	if err != nil {
		return err
	}
	reportAlone("gateway-memory-per-tenant", "B", goal{}, memory)
	if err := b.churnBeside(byPort, "gateway", b.scale.streams); err != nil {
		return err
	}
	return b.churnBeside(byAddress, "gateway-addresses", b.scale.moreStreams)
}

// churnBeside has tenants come and go while streams stay open. A tenant port takes a descriptor from them.
func (b *bench) churnBeside(by ways, name string, streams int) error {
	g, err := b.startGateway(b.scale.tenants, by)
	if err != nil {
		return err
	}
	defer g.stop()
	if err := b.answers(&proxy{process: g.process, addr: g.public()}); err != nil {
		return err
	}
	conns, err := b.openMany(g.public(), streams)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, g.complaint())
	}
	times, err := b.churn(g)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, g.complaint())
	}
	slices.Sort(times)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
	reportAlone(name+"-route-live-p50", "ms", goal{}, ms(times[len(times)/2]))
	reportAlone(name+"-route-live-p99", "ms", goal{value: 100}, ms(times[len(times)*99/100]))
	lost, verdict := len(conns)-answering(conns), "ok"
	if lost > 0 {
		verdict = "short"
	}
	fmt.Printf("BENCH %s-connections-lost %d of_%d none 0 - <=0 %s\n", name, lost, len(conns), verdict)
	return nil
}

// churn adds tenants and removes them again, and returns how long each took to be reached.
func (b *bench) churn(g *gateway) ([]time.Duration, error) {
	var times []time.Duration
	for i := b.scale.tenants; i < b.scale.tenants+b.scale.changes; i++ {
		hello, err := first(hostName(i))
		if err != nil {
			return nil, err
		}
		start := time.Now()
		if err := g.set(i); err != nil {
			return nil, err
		}
		if err := poll(b.ctx, "the new tenant", func() error {
			c, err := open(g.entrance(i), hello)
			if err == nil {
				_ = c.Close()
			}
			return err
		}); err != nil {
			return nil, err
		}
		times = append(times, time.Since(start))
		if err := g.remove(i); err != nil {
			return nil, err
		}
	}
	return times, nil
}

// tenantMemory compares two gateways, with all tenants and with few.
func (b *bench) tenantMemory() (float64, error) {
	few := b.scale.tenants / 10
	var resident [2]float64
	for i, n := range []int{few, b.scale.tenants} {
		g, err := b.startGateway(n, byPort)
		if err != nil {
			return 0, err
		}
		err = b.answers(&proxy{process: g.process, addr: g.public()})
		var memory float64
		if err == nil {
			memory, err = g.resident()
		}
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, g.complaint())
		}
		g.stop()
		if err != nil {
			return 0, err
		}
		resident[i] = memory
	}
	return (resident[1] - resident[0]) / float64(b.scale.tenants-few), nil
}
