// SPDX-License-Identifier: Apache-2.0

package server

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	streams = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kamaji_gateway_xds_streams",
		Help: "Data plane instances that follow this replica, by gateway.",
	}, []string{"gateway"})
	rejections = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kamaji_gateway_xds_rejections_total",
		Help: "Updates that a data plane refused, by gateway and type of resource.",
	}, []string{"gateway", "type"})
	refusals = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kamaji_gateway_xds_refused_total",
		Help: "Connections that were not let in: expired or untrusted client certificate, or identity of another gateway or of none.",
	}, []string{"reason"})
)

// Reasons of refusals.
const (
	expired   = "expired"
	untrusted = "untrusted"
	stranger  = "identity"
)

func init() {
	metrics.Registry.MustRegister(streams, rejections, refusals)
}
