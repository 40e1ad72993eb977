// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// restarts of the gateway while clients connect without a pause.
const restarts = 5

// restartLoss replaces the gateway's process again and again, as an upgrade would, and counts connections that did not come about.
func (b *bench) restartLoss() error {
	g, err := b.startGateway(b.scale.names, byPort)
	if err != nil {
		return err
	}
	defer func() {
		for _, pid := range g.running() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		g.stop()
	}()
	if err := b.answers(&proxy{process: g.process, addr: g.public()}); err != nil {
		return err
	}
	var stop atomic.Bool
	var made, lost atomic.Int64
	var failure atomic.Pointer[error]
	var load sync.WaitGroup
	for range clients {
		load.Go(func() {
			for !stop.Load() {
				if err := b.once(g.public()); err != nil {
					lost.Add(1)
					failure.Store(&err)
				}
				made.Add(1)
			}
		})
	}
	err = b.replace(g)
	stop.Store(true)
	load.Wait()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, g.complaint())
	}
	verdict := "ok"
	if lost.Load() > 0 {
		verdict = "short"
		b.log.Print("a connection that was lost in a restart: %v", *failure.Load())
	}
	fmt.Printf("BENCH gateway-restart-lost %d of_%d none 0 - <=0 %s\n", lost.Load(), made.Load(), verdict)
	return nil
}

// once connects and disconnects.
func (b *bench) once(to netip.AddrPort) error {
	c, err := open(to, b.hello)
	if err != nil {
		return err
	}
	return c.Close()
}

// replace has the running process start its successor, and waits until it has ended.
func (b *bench) replace(g *gateway) error {
	for range restarts {
		before := g.running()
		if len(before) != 1 {
			return fmt.Errorf("%d processes are running", len(before))
		}
		if err := syscall.Kill(before[0], syscall.SIGHUP); err != nil {
			return err
		}
		if err := poll(b.ctx, "the successor", func() error {
			if now := g.running(); len(now) != 1 || now[0] == before[0] {
				return errors.New("the old process is still there")
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// running are the processes that were started with the bootstrap file of g, and have not ended.
func (g *gateway) running() []int {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var out []int
	for _, dir := range dirs {
		command, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || !strings.Contains(string(command), g.file) { // a zombie has no command line
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			out = append(out, pid)
		}
	}
	return out
}
