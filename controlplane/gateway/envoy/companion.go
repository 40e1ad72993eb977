// SPDX-License-Identifier: Apache-2.0

package envoy

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/envoy/redirect"
)

const (
	// adminTimeout bounds one answer of the administration interface, which Envoy gives from its main thread.
	adminTimeout = 5 * time.Second
	// drainPoll is how often the end of the last connection is looked for.
	drainPoll = 250 * time.Millisecond
	// closing gives answers that are being written the time to leave.
	closing = time.Second
)

// Companion runs beside an Envoy, in its network namespace.
type Companion struct {
	// AdminSocket is the path of Envoy's administration interface.
	AdminSocket string
	// Health is host:port for /healthz, /readyz, /metrics and /drain.
	Health string
	// Redirect brings tenant ports to the private listener.
	Redirect redirect.Rule
	// Drain is how long open connections may go on once /drain was asked for.
	Drain time.Duration
	// Command starts an Envoy of the companion's own, which then drains and ends with it; without one, somebody else runs Envoy.
	Command []string
	Log     *slog.Logger

	draining atomic.Bool
}

// Run redirects and answers until ctx ends, or the Envoy that it started does, which is an error.
func (c *Companion) Run(ctx context.Context) error {
	rule, err := redirect.Start(c.Redirect)
	if err != nil {
		return err
	}
	defer func() { _ = rule.Close() }()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Health)
	if err != nil {
		return fmt.Errorf("opening the health port: %w", err)
	}
	c.Log.Info("Redirecting tenant ports", "address", c.Redirect.Address, "ports", c.Redirect.Ports, "to", c.Redirect.Port)
	// Draining that was asked for ends with ctx, too: then Envoy is gone or about to be.
	server := &http.Server{Handler: c.Handler(), ReadHeaderTimeout: adminTimeout, BaseContext: func(net.Listener) context.Context { return ctx }}
	failed := make(chan error, 2)
	go func() { failed <- fmt.Errorf("serving the health port: %w", server.Serve(listener)) }()
	end, err := c.start(failed)
	if err != nil {
		return errors.Join(err, server.Close())
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	end(err == nil)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
	defer cancel()
	return errors.Join(err, server.Shutdown(last))
}

// start runs Command, if there is one, and tells failed when it ends. The function that it returns ends it, gracefully or not.
func (c *Companion) start(failed chan<- error) (end func(graceful bool), err error) {
	if len(c.Command) == 0 {
		return func(bool) {}, nil
	}
	command := exec.Command(c.Command[0], c.Command[1:]...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("starting Envoy: %w", err)
	}
	gone := make(chan struct{})
	go func() {
		failed <- fmt.Errorf("Envoy ended: %w", cmp.Or(command.Wait(), errEnded))
		close(gone)
	}()
	return func(graceful bool) {
		if graceful {
			if err := c.drain(context.Background()); err != nil {
				c.Log.Error("Draining failed", "error", err)
			}
		}
		if err := command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			c.Log.Error("Cannot end Envoy", "error", err)
		}
		<-gone
	}, nil
}

// errEnded is why a process that had no reason to end is an error.
var errEnded = errors.New("by itself")

// Handler answers /healthz while the companion runs, /readyz when Envoy takes connections, /metrics with Envoy's, and /drain after
// Envoy took no more connections and has none left, or Drain is over.
func (c *Companion) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if c.draining.Load() {
			http.Error(w, "draining", http.StatusServiceUnavailable)
			return
		}
		c.pass(w, r, "/ready")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) { c.pass(w, r, "/stats/prometheus") })
	// A hook before the container stops can only GET.
	mux.HandleFunc("GET /drain", func(w http.ResponseWriter, r *http.Request) {
		if err := c.drain(r.Context()); err != nil {
			c.Log.Error("Draining failed", "error", err)
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, "drained\n")
	})
	return mux
}

// pass hands on what Envoy says at path.
func (c *Companion) pass(w http.ResponseWriter, r *http.Request, path string) {
	resp, err := c.admin(r.Context(), http.MethodGet, path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

// drain closes the listeners and waits for the connections to end.
func (c *Companion) drain(ctx context.Context) error {
	c.draining.Store(true)
	resp, err := c.admin(ctx, http.MethodPost, "/drain_listeners")
	if err != nil {
		return fmt.Errorf("closing Envoy's listeners: %w", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("closing Envoy's listeners: %s", resp.Status)
	}
	deadline, cancel := context.WithTimeout(ctx, c.Drain)
	defer cancel()
	poll := time.NewTicker(drainPoll)
	defer poll.Stop()
	for {
		open, err := c.connections(deadline)
		if deadline.Err() != nil {
			c.Log.Info("Envoy ends with connections that did not", "connections", open)
			return nil
		}
		if err != nil || open == 0 {
			return err
		}
		select {
		case <-deadline.Done():
		case <-poll.C:
		}
	}
}

// connections is how many Envoy holds.
func (c *Companion) connections(ctx context.Context) (int, error) {
	resp, err := c.admin(ctx, http.MethodGet, `/stats?filter=^listener\.(public|private|prefix)\.downstream_cx_active$`)
	if err != nil {
		return 0, fmt.Errorf("counting connections: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	total := 0
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		_, value, ok := strings.Cut(lines.Text(), ": ")
		if !ok {
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			return 0, fmt.Errorf("counting connections: %w", err)
		}
		total += n
	}
	return total, lines.Err()
}

// admin asks the administration interface. Its answers end with the context, at the latest.
func (c *Companion) admin(ctx context.Context, method, path string) (*http.Response, error) {
	transport := &http.Transport{
		DisableKeepAlives:     true,
		ResponseHeaderTimeout: adminTimeout,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: adminTimeout}).DialContext(ctx, "unix", c.AdminSocket)
		},
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://envoy"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("asking Envoy for %s: %w", path, err)
	}
	resp, err := transport.RoundTrip(req)
	var operation *net.OpError
	if errors.As(err, &operation) && operation.Op == "dial" {
		return nil, fmt.Errorf("Envoy does not run: %w", err)
	}
	return resp, err
}
