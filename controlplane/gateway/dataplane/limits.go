// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"cmp"
	"errors"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/bootstrap"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/relay"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds"
)

// limits are those of the bootstrap file, and where it has none, those that the control plane gave.
func limits(file bootstrap.Limits, given route.Limits) relay.Limits {
	return relay.Limits{
		MaxConnections: cmp.Or(file.Connections, int(given.Connections)),
		MaxPending:     cmp.Or(file.PendingConnections, int(given.PendingConnections)),
		MaxAge:         cmp.Or(time.Duration(file.ConnectionAgeSeconds)*time.Second, given.ConnectionAge),
	}
}

// protect brings the limits and load balancers of a listener into effect. All listeners have the same limits.
func (g *Gateway) protect(name route.Listener, given xds.Protection) {
	g.relay.SetLimits(limits(g.config.Limits, given.Limits))
	proxies := given.Proxies
	if local := g.config.ProxyProtocol.Prefixes(); len(local) > 0 {
		proxies = local
	}
	switch name {
	case route.Public:
		g.listeners.public.SetProxies(proxies)
	case route.Private:
		g.listeners.private.SetProxies(proxies)
	}
}

// registerLimits adds the metrics that say how near the limits are.
func (g *Gateway) registerLimits() {
	g.metrics.registry.MustRegister(
		&tenantCollector{accounts: g.routes.Accounts(), limit: g.config.TenantsByName()},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "kamaji_gateway_connections_limit", Help: "Connections that may be open at once, by the limit set or the file descriptors there are.",
		}, func() float64 { return float64(g.relay.Capacity()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "kamaji_gateway_accept_pauses_total", Help: "Times that a listener rested because descriptors or memory had run out.",
		}, func() float64 { return float64(g.relay.Pauses()) }),
	)
}

// overloadWatch says in the log when connections are turned away, once for as long as it goes on.
type overloadWatch struct {
	gateway *Gateway
	turned  uint64
	pauses  uint64
	said    bool
}

// look is called at regular intervals.
func (w *overloadWatch) look() {
	g := w.gateway
	turned, pauses := g.policy.overload.Load(), g.relay.Pauses()
	more := turned != w.turned || pauses != w.pauses
	if more && !w.said {
		g.log.Error("Turning connections away: raise limits.connections or the limit of open files, or add gateways",
			"open", g.relay.Active(), "limit", g.relay.Capacity(), "turnedAway", turned-w.turned, "acceptPauses", pauses-w.pauses)
	}
	w.turned, w.pauses, w.said = turned, pauses, more
}

func closeAll(listeners ...net.Listener) error {
	var errs []error
	for _, l := range listeners {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}
