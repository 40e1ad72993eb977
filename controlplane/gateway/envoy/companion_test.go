// SPDX-License-Identifier: Apache-2.0

package envoy

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// administration is the part of Envoy's interface that the companion uses, as Envoy documents it.
type administration struct {
	live, listening atomic.Bool
	// connections end one per question once the listeners are closed.
	connections atomic.Int64
}

func (a *administration) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "GET /ready":
		if !a.live.Load() {
			http.Error(w, "PRE_INITIALIZING", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "LIVE\n")
	case "GET /stats/prometheus":
		_, _ = io.WriteString(w, "envoy_server_live{} 1\n")
	case "POST /drain_listeners":
		a.listening.Store(false)
		_, _ = io.WriteString(w, "OK\n")
	case "GET /stats":
		_, _ = fmt.Fprintf(w, "listener.private.downstream_cx_active: %d\nlistener.public.downstream_cx_active: 0\n", a.connections.Load())
		if !a.listening.Load() {
			a.connections.Add(-1)
		}
	default:
		http.Error(w, "invalid path", http.StatusNotFound)
	}
}

func companion(t *testing.T, drain time.Duration) (*administration, *httptest.Server) {
	t.Helper()
	a := &administration{}
	a.listening.Store(true)
	socket := filepath.Join(t.TempDir(), "admin.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	admin := &httptest.Server{Listener: listener, Config: &http.Server{Handler: a, ReadHeaderTimeout: time.Minute}}
	admin.Start()
	t.Cleanup(admin.Close)
	c := &Companion{AdminSocket: socket, Drain: drain, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	server := httptest.NewServer(c.Handler())
	t.Cleanup(server.Close)
	return a, server
}

func get(t *testing.T, server *httptest.Server, path string) (int, string) {
	t.Helper()
	resp, err := http.Get(server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestCompanion(t *testing.T) {
	a, server := companion(t, time.Minute)
	if status, _ := get(t, server, "/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("ready is %d before Envoy is", status)
	}
	a.live.Store(true)
	if status, body := get(t, server, "/readyz"); status != http.StatusOK || body != "LIVE\n" {
		t.Errorf("ready is %d %q", status, body)
	}
	if _, body := get(t, server, "/metrics"); body != "envoy_server_live{} 1\n" {
		t.Errorf("metrics are %q", body)
	}
	if status, _ := get(t, server, "/config_dump"); status != http.StatusNotFound {
		t.Errorf("the administration interface is open: status %d", status)
	}
	a.connections.Store(3)
	if status, body := get(t, server, "/drain"); status != http.StatusOK {
		t.Errorf("draining: %d %s", status, body)
	}
	if a.listening.Load() || a.connections.Load() > 0 {
		t.Errorf("drained with %d connections, listening %v", a.connections.Load(), a.listening.Load())
	}
	if status, _ := get(t, server, "/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("ready is %d after draining", status)
	}
}

func TestDrainingEnds(t *testing.T) {
	a, server := companion(t, 0)
	a.connections.Store(1 << 40)
	if status, _ := get(t, server, "/drain"); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
}

func TestNoEnvoy(t *testing.T) {
	c := &Companion{AdminSocket: filepath.Join(t.TempDir(), "none"), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	server := httptest.NewServer(c.Handler())
	t.Cleanup(server.Close)
	if status, body := get(t, server, "/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("ready is %d: %s", status, body)
	}
	if status, _ := get(t, server, "/healthz"); status != http.StatusOK {
		t.Errorf("health is %d", status)
	}
	if status, _ := get(t, server, "/drain"); status != http.StatusBadGateway {
		t.Errorf("drain is %d", status)
	}
}
