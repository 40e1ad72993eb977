// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/upstream"
)

// others is the label value for all tenants without series of their own. No tenant is called so: their names have a slash.
const others = "other"

var (
	bytesDesc = prometheus.NewDesc("kamaji_gateway_bytes_total",
		"Bytes relayed, by direction, counted while connections are open.", []string{"direction"}, nil)
	tenantActiveDesc = prometheus.NewDesc("kamaji_gateway_tenant_connections_active",
		"Routed connections that are open, by tenant.", []string{"tenant"}, nil)
	tenantConnectionsDesc = prometheus.NewDesc("kamaji_gateway_tenant_connections_total",
		"Routed connections, by tenant.", []string{"tenant"}, nil)
	tenantRefusedDesc = prometheus.NewDesc("kamaji_gateway_tenant_refused_total",
		"Connections turned away because of the tenant's limit or list of networks, by tenant.", []string{"tenant"}, nil)
	tenantBytesDesc = prometheus.NewDesc("kamaji_gateway_tenant_bytes_total",
		"Bytes relayed, by tenant and direction, counted while connections are open.", []string{"tenant", "direction"}, nil)
)

// tenantCollector reports the accounts of tenants: the first limit that had connections by name, all others as one.
type tenantCollector struct {
	accounts *upstream.Accounts
	limit    int
}

// Describe is prometheus.Collector.
func (*tenantCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{bytesDesc, tenantActiveDesc, tenantConnectionsDesc, tenantRefusedDesc, tenantBytesDesc} {
		out <- d
	}
}

// Collect is prometheus.Collector.
func (c *tenantCollector) Collect(out chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	tenant := func(name string, t upstream.Totals) {
		out <- prometheus.MustNewConstMetric(tenantActiveDesc, prometheus.GaugeValue, float64(t.Active), name)
		counter(tenantConnectionsDesc, t.Connections, name)
		counter(tenantRefusedDesc, t.Refused, name)
		counter(tenantBytesDesc, t.Sent, name, "to_upstream")
		counter(tenantBytesDesc, t.Received, name, "to_client")
	}
	rest, all := c.accounts.Report(c.limit, tenant)
	tenant(others, rest)
	counter(bytesDesc, all.Sent, "to_upstream")
	counter(bytesDesc, all.Received, "to_client")
}
