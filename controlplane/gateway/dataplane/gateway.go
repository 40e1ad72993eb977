// SPDX-License-Identifier: Apache-2.0

// Package dataplane is the embedded data plane of a gateway: it takes connections on the public and the
// private address, finds the tenant by server name or by port, and passes the bytes to one of the
// tenant's endpoints without ending TLS. What to do it learns over xDS; the contract is in the
// documentation of package xds.
//
// The parts: hello reads the ClientHello, upstream is the route table, relay moves the bytes, ads
// follows the control plane, bootstrap is the file to start from. This package puts them together.
package dataplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/ads"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/bootstrap"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/relay"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/upstream"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

const (
	// tendInterval is how often listeners that failed are retried and a changed configuration is saved:
	// a burst of changes is one write, and a crash loses at most that much.
	tendInterval = time.Second
	// userAgent is how the gateway calls itself in the logs of the control plane.
	userAgent = "kamaji-gateway"
)

// Options are what the process gives a gateway besides its bootstrap file.
type Options struct {
	// Log is for what an operator should know.
	Log *slog.Logger
	// AccessLog gets one line of JSON per connection.
	AccessLog io.Writer
	// Relay are the limits of the data path that the bootstrap file does not set.
	Relay relay.Options
}

// Gateway is a running data plane.
type Gateway struct {
	config    *bootstrap.Config
	log       *slog.Logger
	metrics   *metrics
	accessLog *accessLog
	routes    *upstream.Set
	policy    *policy
	relay     *relay.Relay
	health    net.Listener
	scrapes   net.Listener // for metrics; nil when the health port serves them

	succession succession

	configMu  sync.Mutex // held while the configuration changes
	state     *state
	listeners *listeners
	missing   map[string]struct{} // types that were not given yet

	configured atomic.Bool // every type was given
	draining   atomic.Bool
}

// New opens the health port and applies the saved configuration, if there is one. Connections are
// served from here on; Run follows the control plane.
func New(config *bootstrap.Config, options Options) (*Gateway, error) {
	g := &Gateway{config: config, log: options.Log, metrics: newMetrics(), routes: upstream.NewSet(), state: newState()}
	var err error
	if g.health, err = listenHealth(config.HealthAddress); err != nil {
		return nil, fmt.Errorf("opening the health port: %w", err)
	}
	if config.MetricsAddress != "" {
		if g.scrapes, err = listenHealth(config.MetricsAddress); err != nil {
			return nil, errors.Join(fmt.Errorf("opening the metrics port: %w", err), g.health.Close())
		}
	}
	g.accessLog = newAccessLog(options.AccessLog)
	g.metrics.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "kamaji_gateway_access_log_dropped_total", Help: "Lines of the access log that were not written.",
	}, func() float64 { return float64(g.accessLog.dropped.Load()) }))
	g.policy = &policy{routes: g.routes, metrics: g.metrics, log: g.accessLog}
	options.Relay.Limits = limits(config.Limits, route.Limits{})
	g.relay, err = relay.New(g.policy, options.Relay)
	if err != nil {
		g.accessLog.close()
		return nil, errors.Join(fmt.Errorf("starting the relay: %w", err), closeAll(g.health, g.scrapes))
	}
	g.registerLimits()
	g.listeners = newListeners(g.relay, g.log)
	g.succession.inherit(g)
	g.missing = map[string]struct{}{}
	for _, t := range types {
		g.missing[t] = struct{}{}
	}
	g.restore()
	return g, nil
}

// restore applies the saved configuration. An unusable one is as good as none: the control plane has
// the right one.
func (g *Gateway) restore() {
	if g.config.StateDir == "" {
		return
	}
	saved, err := load(g.config.StateDir, g.config.Node.Gateway)
	if err != nil {
		g.log.Error("Starting without the saved configuration", "error", err)
		return
	}
	for _, response := range saved {
		if err := g.Apply(response.GetTypeUrl(), response.GetResources(), nil); err != nil {
			g.log.Error("Part of the saved configuration cannot be used", "type", response.GetTypeUrl(), "error", err)
		}
	}
	if len(saved) > 0 {
		g.log.Info("Started from the saved configuration", "routes", g.routes.Len())
	}
}

// Run serves until ctx is done, then drains: listeners are closed, open connections may go on for the
// time the bootstrap file gives them. It returns an error when the health port fails.
func (g *Gateway) Run(ctx context.Context) error {
	following, stop := context.WithCancel(ctx)
	defer stop()
	var parts sync.WaitGroup
	client := &ads.Client{
		Node: g.config.Node, XDS: g.config.XDS, Agent: userAgent, Types: types, Store: g, Log: g.log, Status: g.connected,
	}
	parts.Go(func() { client.Run(following) })
	parts.Go(func() { g.tend(following) })
	health, scrapes := g.healthServer(), g.metricsServer()
	failed := make(chan error, 2)
	parts.Go(func() { failed <- health.Serve(g.health) })
	if g.scrapes != nil {
		parts.Go(func() { failed <- scrapes.Serve(g.scrapes) })
	}

	var err error
	select {
	case <-ctx.Done():
	case <-g.succession.replaced():
		g.log.Info("Another process has taken over")
	case err = <-failed:
		err = fmt.Errorf("serving the health port: %w", err)
	}
	stop()
	g.draining.Store(true)
	g.succession.end()
	// A successor may have the same health address: from here on the answers are its own.
	_, _ = health.Close(), scrapes.Close()
	g.log.Info("Draining", "connections", g.relay.Active(), "for", g.config.Drain().String())
	deadline, cancel := context.WithTimeout(context.Background(), g.config.Drain())
	defer cancel()
	if left := g.relay.Drain(deadline); left != nil {
		g.log.Info("Closed the connections that were left")
	}
	g.save()
	parts.Wait()
	g.accessLog.close()
	return err
}

// connected is told by the ADS client.
func (g *Gateway) connected(yes bool) {
	if yes {
		g.metrics.connected.Set(1)
	} else {
		g.metrics.connected.Set(0)
	}
}

// tend does what has to be done now and then.
func (g *Gateway) tend(ctx context.Context) {
	tick := time.NewTicker(tendInterval)
	defer tick.Stop()
	crowd := overloadWatch{gateway: g}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.configMu.Lock()
			g.listeners.retry()
			g.metrics.bound(len(g.listeners.open), len(g.listeners.failed))
			g.configMu.Unlock()
			g.succession.offer(g)
			crowd.look()
			g.save()
		}
	}
}

// save writes the configuration to disk when it changed. A configuration without all its types is
// nothing to go on from, and the saved one of the last run may still be needed.
func (g *Gateway) save() {
	if g.config.StateDir == "" || !g.configured.Load() {
		return
	}
	g.configMu.Lock()
	if !g.state.changed {
		g.configMu.Unlock()
		return
	}
	snapshot := g.state.snapshot()
	g.configMu.Unlock()
	if err := save(g.config.StateDir, g.config.Node.Gateway, snapshot); err != nil {
		g.log.Error("Cannot keep the configuration, a restart would need the control plane", "error", err)
	}
}
