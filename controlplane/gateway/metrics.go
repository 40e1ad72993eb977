// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var certificateExpiry = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "kamaji_gateway_certificate_expiry_timestamp_seconds",
	Help: "When the client certificate of a gateway's data plane expires, in seconds since 1970, by gateway.",
}, []string{"gateway"})

func init() {
	metrics.Registry.MustRegister(certificateExpiry)
}
