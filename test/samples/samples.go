// SPDX-License-Identifier: Apache-2.0

// Package samples reads what a process serves at /metrics, for benchmarks.
package samples

import (
	"strconv"
	"strings"
)

// Sum adds up the samples of a metric that have all labels.
func Sum(text, metric string, labels ...string) float64 {
	total := 0.0
next:
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, metric+"{") && !strings.HasPrefix(line, metric+" ") {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(line, label) {
				continue next
			}
		}
		if value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " ")+1:]), 64); err == nil {
			total += value
		}
	}
	return total
}
