// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/bootstrap"
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
	return []plane{{"Embedded", startEmbedded}}
}

// on runs a test on each data plane.
func on(t *testing.T, test func(t *testing.T, p plane)) {
	for _, p := range planes() {
		t.Run(p.name, func(t *testing.T) { test(t, p) })
	}
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
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("gateway: %v", err)
		}
	}))
	until(t, "the gateway is ready", func() bool {
		resp, err := http.Get("http://" + health + "/readyz")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode == http.StatusOK
	})
	return cancel
}
