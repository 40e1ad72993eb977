// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/bootstrap"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/envoy"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/envoy/redirect"
)

// plane is a kind of data plane.
type plane struct {
	name string
	// start runs one until the test ends, and returns when it is configured. drain has it take no more connections; those it has
	// go on.
	start func(t *testing.T, w *world) (drain func())
}

// planes are the data planes that are here: the embedded one always, Envoy where ENVOY_BIN names its binary.
func planes() []plane {
	all := []plane{{"Embedded", startEmbedded}}
	if os.Getenv("ENVOY_BIN") != "" {
		all = append(all, plane{"Envoy", startEnvoy})
	}
	return all
}

func startEmbedded(t *testing.T, w *world) (drain func()) {
	t.Helper()
	health := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(freePort(t))))
	minutes := 600
	config := &bootstrap.Config{
		Node: bootstrap.Node{Gateway: w.gateway.Name, Instance: "test"},
		XDS: bootstrap.XDS{
			Address: w.xds, ServerName: xdsName,
			CAFile: filepath.Join(w.certs, "ca.crt"), CertFile: filepath.Join(w.certs, "tls.crt"), KeyFile: filepath.Join(w.certs, "tls.key"),
		},
		HealthAddress: health, DrainSeconds: &minutes,
	}
	g, err := dataplane.New(config, dataplane.Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), AccessLog: io.Discard})
	must(t, err)
	stop := run(t, g.Run)
	ready(t, health)
	return stop
}

// startEnvoy needs root, to redirect tenant ports.
func startEnvoy(t *testing.T, w *world) (drain func()) {
	t.Helper()
	dir := t.TempDir()
	health := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(freePort(t))))
	config := envoy.Config{
		Gateway: w.gateway.Name, Instance: "test", XDSAddress: w.xds, XDSServerName: xdsName, TLSDir: w.certs, Dir: dir, AdminSocket: filepath.Join(dir, "admin.sock"),
	}
	files, err := config.Files()
	must(t, err)
	for name, data := range files {
		must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	port := w.gateway.Port
	c := &envoy.Companion{
		AdminSocket: config.AdminSocket, Health: health, Drain: time.Minute, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Redirect: redirect.Rule{
			Name: "kamaji-gateway-" + strconv.Itoa(int(port)), Address: w.gateway.PrivateAddress, Port: port,
			Ports: []redirect.Range{{First: 1024, Last: port - 1}, {First: port + 1, Last: 65535}},
		},
		Command: []string{os.Getenv("ENVOY_BIN"), "--config-path", filepath.Join(dir, envoy.BootstrapFile), "--disable-hot-restart", "--concurrency", "2", "--log-level", "warning"},
	}
	run(t, c.Run)
	ready(t, health)
	return func() {
		go func() {
			if resp, err := http.Get("http://" + health + "/drain"); err == nil {
				_ = resp.Body.Close()
			}
		}()
	}
}

// run has f run until the test ends.
func run(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("data plane: %v", err)
		}
	})
	return cancel
}

// ready waits until a data plane says that it takes connections.
func ready(t *testing.T, health string) {
	t.Helper()
	until(t, "the data plane is ready", func() bool {
		resp, err := http.Get("http://" + health + "/readyz")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode == http.StatusOK
	})
}
