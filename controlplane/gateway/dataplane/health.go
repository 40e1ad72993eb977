// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// healthServer answers /healthz while the process runs, /readyz while it takes connections (it was
// configured once, by the control plane or from disk, and is not draining), and /metrics.
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
	mux.Handle("GET /metrics", promhttp.HandlerFor(g.metrics.registry, promhttp.HandlerOpts{}))
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
}

// answer says ok, or why not.
func answer(w http.ResponseWriter, problem string) {
	if problem == "" {
		_, _ = w.Write([]byte("ok\n"))
		return
	}
	http.Error(w, problem, http.StatusServiceUnavailable)
}
