// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane"
)

// restart starts this program anew at SIGHUP, from the file it was started from, which may hold another version by now. The new process
// takes over the sockets; when it serves, this one drains and ends. If it does not come that far, this one goes on.
func restart(ctx context.Context, gateway *dataplane.Gateway, log *slog.Logger) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
		err := succeed(gateway)
		if err == nil {
			return
		}
		log.Error("No other process took over, going on as before", "error", err)
	}
}

// succeed waits until the new process has taken over, or ended.
func succeed(gateway *dataplane.Gateway) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	left, err := gateway.Leave()
	if err != nil {
		return err
	}
	cmd := exec.Command(program, os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		gateway.Stay()
		return fmt.Errorf("starting %s: %w", program, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-left:
		notify(fmt.Sprintf("MAINPID=%d", cmd.Process.Pid))
		return nil
	case err := <-ended:
		gateway.Stay()
		return fmt.Errorf("%s ended: %w", program, err)
	}
}

// notify tells systemd, if it started this process (sd_notify).
func notify(what string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: name})
	if err != nil {
		return // a service manager that does not listen cannot be told
	}
	_, _ = c.Write([]byte(what))
	_ = c.Close()
}
