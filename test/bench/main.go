// SPDX-License-Identifier: Apache-2.0

// Command bench measures the main job on the lab's cluster, each figure beside its floor: the same work done by hand
// on the same machine in the same run. One line per figure:
//
//	BENCH <name> <value> <unit> <peer or floor> <peer value> <ratio> <goal> ok|short
//
// Values are medians. The exit code is 0 however they turn out; it is 1 when something could not be measured.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

// rounds per figure; odd, so that the median is a measured value.
const rounds = 3

// measures in the order they are taken; arguments of the command select some by name.
var measures = []struct {
	name string
	run  func(context.Context, *quickstart.Lab) error
}{
	{"idle", idle}, {"apply", controlPlane}, {"worker", worker}, {"memory", memory}, {"changes", changes}, {"fleet", fleet},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	l := quickstart.New(progress.New(os.Stderr))
	if err := l.Prepare(ctx); err != nil {
		return err
	}
	for _, m := range measures {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], m.name) {
			continue
		}
		if err := m.run(ctx, l); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// report prints one figure. limit is the largest value that meets the goal.
func report(name string, value float64, unit, peer string, peerValue float64, goal string, limit float64) {
	verdict := "ok"
	if value > limit {
		verdict = "short"
	}
	ratio := "-"
	if peerValue > 0 {
		ratio = fmt.Sprintf("%.2f", value/peerValue)
	}
	fmt.Printf("BENCH %s %.2f %s %s %.2f %s %s %s\n", name, value, unit, peer, peerValue, ratio, goal, verdict)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// seconds since start.
func seconds(start time.Time) float64 { return time.Since(start).Seconds() }
