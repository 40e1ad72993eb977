// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"
)

// listenHealth shares the port with a process that is about to take over, or to end: pods of a DaemonSet that are replaced
// run side by side for a while, in the network namespace of the node.
func listenHealth(address string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if controlErr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}); controlErr != nil {
			return controlErr
		}
		return err
	}}
	return config.Listen(context.Background(), "tcp", address)
}

// healthServer answers /healthz while the process runs, /readyz while it takes connections (it was
// configured once, by the control plane or from disk, and is not draining), and /metrics unless that has an address of its own.
func (g *Gateway) healthServer() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, "") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case g.draining.Load():
			answer(w, "draining")
		case !g.configured.Load():
			answer(w, "waiting for the first configuration")
		default:
			answer(w, "")
		}
	})
	if g.scrapes == nil {
		mux.Handle("GET /metrics", g.metricsHandler())
	}
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
}

// metricsServer answers /metrics alone.
func (g *Gateway) metricsServer() *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", g.metricsHandler())
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
}

func (g *Gateway) metricsHandler() http.Handler {
	return promhttp.HandlerFor(g.metrics.registry, promhttp.HandlerOpts{})
}

// answer says ok, or why not.
func answer(w http.ResponseWriter, problem string) {
	if problem == "" {
		_, _ = w.Write([]byte("ok\n"))
		return
	}
	http.Error(w, problem, http.StatusServiceUnavailable)
}
