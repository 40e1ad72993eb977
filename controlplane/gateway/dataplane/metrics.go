// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/relay"
)

// metrics are the gateway's, in a registry of their own. No label has a value that clients choose, and the number of tenants that
// have series of their own is bounded.
type metrics struct {
	registry        *prometheus.Registry
	connections     *prometheus.CounterVec
	active          map[string]prometheus.Gauge // by kind of listener
	connectFailures prometheus.Counter
	routes          prometheus.Gauge
	responses       *prometheus.CounterVec
	connected       prometheus.Gauge
	listeners       *prometheus.GaugeVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kamaji_gateway_connections_total", Help: "Connections that ended, by kind of listener and reason.",
		}, []string{"listener", "reason"}),
		connectFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kamaji_gateway_upstream_connect_failures_total", Help: "Attempts to connect to an endpoint that failed.",
		}),
		routes: prometheus.NewGauge(prometheus.GaugeOpts{Name: "kamaji_gateway_routes", Help: "Routes in effect."}),
		responses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kamaji_gateway_xds_responses_total", Help: "Responses of the control plane, by type and whether all of it could be used.",
		}, []string{"type", "result"}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kamaji_gateway_xds_connected", Help: "1 while the gateway follows its control plane.",
		}),
		listeners: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kamaji_gateway_listeners", Help: "Addresses to listen on, by whether they are open.",
		}, []string{"state"}),
		active: map[string]prometheus.Gauge{},
	}
	active := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kamaji_gateway_connections_active", Help: "Routed connections that are open, by kind of listener.",
	}, []string{"listener"})
	for _, kind := range []string{kindPublic, kindPrivate, kindTenantPort, kindAddress} {
		m.active[kind] = active.WithLabelValues(kind)
	}
	m.registry.MustRegister(m.connections, active, m.connectFailures, m.routes, m.responses, m.connected, m.listeners,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// ended counts a connection out.
func (m *metrics) ended(kind string, why relay.Reason) {
	m.connections.WithLabelValues(kind, string(why)).Inc()
}

// applied counts a response of the control plane.
func (m *metrics) applied(typeURL string, ok bool, routes int) {
	result := "accepted"
	if !ok {
		result = "rejected"
	}
	m.responses.WithLabelValues(typeURL[strings.LastIndexByte(typeURL, '.')+1:], result).Inc()
	m.routes.Set(float64(routes))
}

// bound sets how many listeners are open and how many could not be opened.
func (m *metrics) bound(open, failed int) {
	m.listeners.WithLabelValues("open").Set(float64(open))
	m.listeners.WithLabelValues("failed").Set(float64(failed))
}
