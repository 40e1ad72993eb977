// SPDX-License-Identifier: Apache-2.0

// Package progress prints one line per piece of work, with the time it took.
package progress

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// beat is how often a running step reports that it's alive: CI systems end
// jobs that stay silent for long.
const beat = 30 * time.Second

// Log prints steps to a writer. It's safe for concurrent steps.
type Log struct {
	mu  sync.Mutex
	out io.Writer
}

// New returns a log that prints to out.
func New(out io.Writer) *Log {
	return &Log{out: out}
}

// Step runs a piece of work and prints its name, outcome and duration. The
// error is run's own.
func (l *Log) Step(name string, run func() error) error {
	start := time.Now()
	finished := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticks := time.NewTicker(beat)
		defer ticks.Stop()
		for {
			select {
			case <-finished:
				return
			case <-ticks.C:
				l.Print("▸ %s … %.0fs", name, time.Since(start).Seconds())
			}
		}
	}()
	err := run()
	close(finished)
	<-ended
	mark := "✓"
	if err != nil {
		mark = "✗"
	}
	l.Print("▸ %s … %s %.1fs", name, mark, time.Since(start).Seconds())
	return err
}

// Print prints one line.
func (l *Log) Print(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, format+"\n", args...)
}
