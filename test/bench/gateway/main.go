// SPDX-License-Identifier: Apache-2.0

// Command gateway measures the embedded data plane beside HAProxy and nginx (stream module, ssl_preread), both from Debian, in the
// same run: every figure is taken from all of them in turn, round after round, and the median counts. Each is one process with one
// thread of work and knows the same host names, finds dead peers by keepalive and writes an access log, to /dev/null. Processor time is
// that of the proxy alone, so it says the same on a busy machine; latencies need a quiet one. One line per figure and peer:
//
//	BENCH <name> <value> <unit> <peer> <peer value> <ratio> <goal> ok|short
//
// Goal and verdict are "-" where none is set. The exit code is 0 however the figures turn out; it is 1 when one could not be taken.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/debian"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

// scale is how much is measured.
type scale struct {
	rounds      int // per figure; odd, so that the median is a measured value
	names       int // host names that every proxy knows
	connections int // per round, for the cost of a connection
	mebibytes   int // per round, for the cost of streaming
	samples     int // rounds for the latency
	pings       int // in each of them
	idle        int // connections held at once
	tenants     int // of the gateway with many
	changes     int // tenants added and removed again
	streams     int // that stay open meanwhile, beside tenants with a port each
	moreStreams int // and beside tenants with an address each
}

var (
	whole = scale{rounds: 5, names: 1000, connections: 4000, mebibytes: 2048, samples: 51, pings: 2000, idle: 8000, tenants: 10000, changes: 1000, streams: 4000, moreStreams: 8000}
	small = scale{rounds: 1, names: 100, connections: 500, mebibytes: 256, samples: 3, pings: 1000, idle: 500, tenants: 200, changes: 20, streams: 100, moreStreams: 200}
)

func main() {
	quick := flag.Bool("quick", false, "measure little, to see whether it works")
	only := flag.String("only", "", "measure one of: connections, stream, latency, idle, restart, tenants")
	flag.Parse()
	ctrllog.SetLogger(logr.Discard()) // of the control plane, which would complain that it has none
	size := whole
	if *quick {
		size = small
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, size, *only); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, size scale, only string) (err error) {
	log := progress.New(os.Stderr)
	if err := debian.Need(ctx, log, map[string]string{"haproxy": "haproxy", "nginx": "nginx libnginx-mod-stream"}); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-gateway")
	if err != nil {
		return err
	}
	b := &bench{ctx: ctx, log: log, dir: dir, scale: size}
	defer b.close()
	if err := b.build(); err != nil {
		return err
	}
	measures := []measure{{"connections", b.connectionCost}, {"stream", b.streamCost}, {"latency", b.latency}, {"idle", b.idleCost}}
	if only != "tenants" && only != "restart" {
		if err := b.startProxies(); err != nil {
			return err
		}
		for _, m := range measures {
			if only == "" || only == m.name {
				if err := log.Step("measuring "+m.name, m.take); err != nil {
					return err
				}
			}
		}
	}
	b.stopProxies() // the next gateway has the address of this one
	for _, m := range []measure{{"restart", b.restartLoss}, {"tenants", b.manyTenants}} {
		if only == "" || only == m.name {
			if err := log.Step("measuring "+m.name, m.take); err != nil {
				return err
			}
		}
	}
	return nil
}

type measure struct {
	name string
	take func() error
}

// goal is a limit for the ratio to HAProxy's figure, or for the value itself.
type goal struct {
	ratio float64 // 0: none
	value float64 // 0: none
}

func (g goal) of(peer string, value, beside float64) (text, verdict string) {
	met := false
	switch {
	case g.value > 0:
		text, met = fmt.Sprintf("<=%g", g.value), value <= g.value
	case g.ratio > 0 && peer == haproxy:
		text, met = fmt.Sprintf("<=%gx", g.ratio), value <= g.ratio*beside
	default:
		return "-", "-"
	}
	if met {
		return text, "ok"
	}
	return text, "short"
}

// report prints the medians of what was measured, by proxy.
func report(name, unit string, g goal, values map[string][]float64) {
	own := median(values[ours])
	for _, peer := range []string{haproxy, nginx} {
		beside := median(values[peer])
		text, verdict := g.of(peer, own, beside)
		fmt.Printf("BENCH %s %.2f %s %s %.2f %.2f %s %s\n", name, own, unit, peer, beside, own/beside, text, verdict)
	}
}

// reportAlone prints a figure that has no peer.
func reportAlone(name, unit string, g goal, value float64) {
	text, verdict := g.of("", value, 0)
	fmt.Printf("BENCH %s %.2f %s none 0.00 - %s %s\n", name, value, unit, text, verdict)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
