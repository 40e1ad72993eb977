// SPDX-License-Identifier: Apache-2.0

// Package gauge keeps Prometheus gauges that describe objects by labels which
// change while the object lives. An update costs the same however many objects
// there are.
package gauge

import (
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Info is a gauge with one sample of value 1 per object; what there is to say
// is in the labels, as in kube_node_info.
type Info struct {
	gauge *prometheus.GaugeVec

	mu   sync.Mutex
	last map[string][]string
}

// NewInfo makes an Info with these labels. It still has to be registered.
func NewInfo(name, help string, labels ...string) *Info {
	return &Info{
		gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels),
		last:  map[string][]string{},
	}
}

// Set gives the object of that key its sample, in place of the one it had. The
// values are in the order of NewInfo's labels.
func (i *Info) Set(key string, values ...string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if before, known := i.last[key]; known {
		if slices.Equal(before, values) {
			return
		}
		i.gauge.DeleteLabelValues(before...)
	}
	i.gauge.WithLabelValues(values...).Set(1)
	i.last[key] = values
}

// Delete takes the object's sample away.
func (i *Info) Delete(key string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if before, known := i.last[key]; known {
		i.gauge.DeleteLabelValues(before...)
		delete(i.last, key)
	}
}

// Describe implements prometheus.Collector.
func (i *Info) Describe(out chan<- *prometheus.Desc) { i.gauge.Describe(out) }

// Collect implements prometheus.Collector.
func (i *Info) Collect(out chan<- prometheus.Metric) { i.gauge.Collect(out) }

// Count is a gauge that counts objects by labels. A sample goes with its last
// object, so that names may be labels, unless it was asked for with Zero.
type Count struct {
	gauge *prometheus.GaugeVec

	mu     sync.Mutex
	last   map[string][]string
	counts map[string]int
	kept   map[string]bool
}

// NewCount makes a Count with these labels. It still has to be registered.
func NewCount(name, help string, labels ...string) *Count {
	return &Count{
		gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels),
		last:  map[string][]string{}, counts: map[string]int{}, kept: map[string]bool{},
	}
}

// Zero shows a sample for these values even while no object has them.
func (c *Count) Zero(values ...string) *Count {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gauge.WithLabelValues(values...)
	c.kept[joined(values)] = true
	return c
}

// Set counts the object of that key under these values, and no longer under those it had.
func (c *Count) Set(key string, values ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if before, known := c.last[key]; known {
		if slices.Equal(before, values) {
			return
		}
		c.add(before, -1)
	}
	c.add(values, 1)
	c.last[key] = values
}

// Delete counts the object no longer.
func (c *Count) Delete(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if before, known := c.last[key]; known {
		c.add(before, -1)
		delete(c.last, key)
	}
}

func (c *Count) add(values []string, change int) {
	id := joined(values)
	c.counts[id] += change
	if c.counts[id] == 0 {
		delete(c.counts, id)
		if !c.kept[id] {
			c.gauge.DeleteLabelValues(values...)
			return
		}
	}
	c.gauge.WithLabelValues(values...).Set(float64(c.counts[id]))
}

func joined(values []string) string { return strings.Join(values, "\x00") }

// Describe implements prometheus.Collector.
func (c *Count) Describe(out chan<- *prometheus.Desc) { c.gauge.Describe(out) }

// Collect implements prometheus.Collector.
func (c *Count) Collect(out chan<- prometheus.Metric) { c.gauge.Collect(out) }
