// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// Values of the labels. None names a tenant: clients choose whom to ask for.
const (
	resultWoken        = "woken"
	resultWaits        = "waits"
	resultStaysAsleep  = "stays_asleep"
	resultUnauthorized = "unauthorized"
	resultFailed       = "failed"

	refusedLimit       = "limit"
	refusedTenantLimit = "tenant_limit"
	refusedName        = "name"
)

var (
	requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kamaji_activator_requests_total",
		Help: "Requests to control planes that sleep or start, by what came of them.",
	}, []string{"result"})
	refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kamaji_activator_connections_refused_total",
		Help: "Connections that were closed before their request, by reason: too many, too many of one tenant, or no tenant's name.",
	}, []string{"reason"})
	connections = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kamaji_activator_connections",
		Help: "Connections that are open.",
	})
)

func init() {
	metrics.Registry.MustRegister(requests, refused, connections)
	// A rate needs a counter that was there before the first event.
	for _, result := range []string{resultWoken, resultWaits, resultStaysAsleep, resultUnauthorized, resultFailed} {
		requests.WithLabelValues(result)
	}
	for _, reason := range []string{refusedLimit, refusedTenantLimit, refusedName} {
		refused.WithLabelValues(reason)
	}
}
