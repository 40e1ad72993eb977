// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/relay"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/upstream"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

// Reasons to refuse a connection, besides those of package relay.
const (
	noRoute  relay.Reason = "no_route"        // no route for the name or port
	tooMany  relay.Reason = "route_limit"     // the route has as many connections as it may
	badName  relay.Reason = "bad_server_name" // the server name is no DNS name
	unsaid   relay.Reason = "no_server_name"  // none was sent, where routes are told apart by it
	attempts              = 3                 // endpoints tried for one connection
)

// TLS alerts (RFC 8446 section 6.2).
const (
	alertInternalError    = 80
	alertUnrecognizedName = 112
)

// policy is how the relay asks the gateway.
type policy struct {
	routes  *upstream.Set
	metrics *metrics
	log     *accessLog
}

// flow is one routed connection.
type flow struct {
	policy       *policy
	entrance     *entrance
	route        *upstream.Route
	backend      *upstream.Backend
	endpoint     *upstream.Endpoint
	tried        []*upstream.Endpoint
	client       netip.AddrPort
	konnectivity bool
	sni          string
}

// Route is relay.Policy.
func (p *policy) Route(in relay.Incoming) (relay.Flow, *relay.Refusal) {
	e := in.Listener.Tag.(*entrance)
	konnectivity := in.Hello.Offers(route.ALPNKonnectivity)
	name, nameErr := in.Hello.ServerName()
	var r *upstream.Route
	var buffer [320]byte // listener, kind, name of 253 bytes, konnectivity
	key := buffer[:0]
	switch {
	case e.port != "" && konnectivity:
		key = append(key, e.konnectivityPort...)
	case e.port != "":
		key = append(key, e.port...)
	case nameErr != nil:
		return nil, &relay.Refusal{Reason: badName, Alert: alertUnrecognizedName}
	case len(name) == 0:
		return nil, &relay.Refusal{Reason: unsaid, Alert: alertUnrecognizedName}
	default:
		key = append(append(key, e.prefix...), name...)
		if konnectivity {
			key = append(key, e.suffix...)
		}
	}
	if r = p.routes.Lookup(key); r == nil {
		return nil, &relay.Refusal{Reason: noRoute, Alert: alertUnrecognizedName}
	}
	if !r.Acquire() {
		return nil, &relay.Refusal{Reason: tooMany, Alert: alertInternalError}
	}
	p.metrics.active[e.kind].Inc()
	f := &flow{policy: p, entrance: e, route: r, backend: r.Backend(), client: in.Client, konnectivity: konnectivity}
	if e.port == "" {
		f.sni = r.Name[len(e.prefix) : len(e.prefix)+len(name)] // the same text, for the life of the connection
	} else {
		f.sni = string(name)
	}
	return f, nil
}

// Rejected is relay.Policy.
func (p *policy) Rejected(in relay.Incoming, why relay.Reason) {
	e := in.Listener.Tag.(*entrance)
	p.metrics.ended(e.kind, why)
	if in.Hello == nil {
		return // nothing was sent: a health check of a load balancer, or a port scan
	}
	entry := entry{Client: in.Client, Listener: e.kind, Address: in.Listener.Addr, Reason: why}
	if name, err := in.Hello.ServerName(); err == nil {
		entry.SNI = string(name)
	}
	p.log.write(entry)
}

// Group is relay.Flow.
func (f *flow) Group() *relay.Group { return &f.route.Group }

// Next is relay.Flow.
func (f *flow) Next(failed error) (netip.AddrPort, time.Duration, bool) {
	now := time.Now()
	if failed != nil && f.endpoint != nil {
		f.policy.metrics.connectFailures.Inc()
		f.endpoint.Suspect(now)
		f.backend.Return(f.endpoint, f.client.Addr(), f.konnectivity)
		f.tried = append(f.tried, f.endpoint)
		f.endpoint = nil
	}
	if len(f.tried) == attempts {
		return netip.AddrPort{}, 0, false
	}
	f.endpoint = f.backend.Pick(f.client.Addr(), f.konnectivity, f.tried, now)
	if f.endpoint == nil {
		return netip.AddrPort{}, 0, false
	}
	return f.endpoint.Addr, f.route.Settings().ConnectTimeout, true
}

// Done is relay.Flow.
func (f *flow) Done(s relay.Summary) {
	p := f.policy
	entry := entry{
		Client: f.client, Listener: f.entrance.kind, SNI: f.sni, Route: f.route.Name, Reason: s.Reason,
		Sent: s.Sent, Received: s.Received, DurationMS: s.Duration.Milliseconds(), UpstreamLocalPort: s.Local.Port(),
	}
	if f.endpoint != nil {
		entry.Upstream = f.endpoint.Addr
		f.backend.Return(f.endpoint, f.client.Addr(), f.konnectivity)
	}
	f.route.Release()
	p.metrics.active[f.entrance.kind].Dec()
	p.metrics.ended(f.entrance.kind, s.Reason)
	p.metrics.bytesToUpstream.Add(float64(s.Sent))
	p.metrics.bytesToClient.Add(float64(s.Received))
	p.log.write(entry)
}
