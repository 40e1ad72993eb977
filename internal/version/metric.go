// SPDX-License-Identifier: Apache-2.0

package version

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector is a gauge of value 1 whose labels say which build is running.
func Collector() prometheus.Collector {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "kamaji_build_info",
		Help:        "Which build is running. Always 1.",
		ConstLabels: prometheus.Labels{"version": Version, "commit": Commit, "goversion": runtime.Version()},
	})
	build.Set(1)
	return build
}
