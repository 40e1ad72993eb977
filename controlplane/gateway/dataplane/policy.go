// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/relay"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/upstream"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

// Reasons to refuse a connection, besides those of package relay.
const (
	noRoute  relay.Reason = "no_route"        // no route for the name or port
	tooMany  relay.Reason = "tenant_limit"    // the tenant has as many connections as it may
	badName  relay.Reason = "bad_server_name" // the server name is no DNS name
	unsaid   relay.Reason = "no_server_name"  // none was sent, where routes are told apart by it
	stranger relay.Reason = "source_refused"  // the route takes no connections from this source
	asleep   relay.Reason = "no_endpoint"     // the tenant has none: it sleeps, or starts
	attempts              = 3                 // endpoints tried for one connection
)

// TLS alerts (RFC 8446 section 6.2).
const (
	alertAccessDenied     = 49
	alertInternalError    = 80
	alertUnrecognizedName = 112
)

// policy is how the relay asks the gateway.
type policy struct {
	routes   *upstream.Set
	metrics  *metrics
	log      *accessLog
	overload atomic.Uint64 // connections turned away because there were too many
}

// flow is one routed connection.
type flow struct {
	policy       *policy
	entrance     *entrance
	route        *upstream.Route
	backend      *upstream.Backend
	side         upstream.Side
	endpoint     *upstream.Endpoint
	tried        []*upstream.Endpoint
	client       netip.AddrPort
	via          netip.Addr
	konnectivity bool
	sni          string
}

// Route is relay.Policy.
func (p *policy) Route(in relay.Incoming) (relay.Flow, *relay.Refusal) {
	e := in.Listener.Tag.(*entrance)
	r, refusal := p.find(e, in)
	if refusal != nil {
		return nil, refusal
	}
	backend, settings := r.Current()
	if !settings.Allows(in.Client.Addr()) {
		backend.Account.Refused.Add(1)
		return nil, &relay.Refusal{Reason: stranger, Alert: alertAccessDenied}
	}
	if !backend.Awake() {
		return nil, &relay.Refusal{Reason: asleep, Alert: alertInternalError}
	}
	if !backend.Account.Acquire(settings.Side, settings.MaxConnections) {
		backend.Account.Refused.Add(1)
		return nil, &relay.Refusal{Reason: tooMany, Alert: alertInternalError}
	}
	p.metrics.active[e.kind].Inc()
	f := &flow{policy: p, entrance: e, route: r, backend: backend, side: settings.Side, client: in.Client, via: in.Via, konnectivity: in.Hello.Offers(route.ALPNKonnectivity)}
	name, _ := in.Hello.ServerName()
	if e.prefix != "" {
		f.sni = r.Name[len(e.prefix) : len(e.prefix)+len(name)] // the same text, for the life of the connection
	} else {
		f.sni = string(name)
	}
	return f, nil
}

// find is the route of a connection, or why there is none.
func (p *policy) find(e *entrance, in relay.Incoming) (*upstream.Route, *relay.Refusal) {
	konnectivity := in.Hello.Offers(route.ALPNKonnectivity)
	var buffer [320]byte // listener, kind, name of 253 bytes, konnectivity
	key := buffer[:0]
	switch name, nameErr := in.Hello.ServerName(); {
	case e.prefix == "" && e.within.IsValid():
		if !e.within.Contains(in.Dialled.Addr()) {
			return nil, &relay.Refusal{Reason: noRoute, Alert: alertUnrecognizedName}
		}
		key = append(key, route.AddressKey(in.Dialled.Addr(), konnectivity).String()...)
	case konnectivity && e.prefix == "":
		key = append(key, e.konnectivityPort...)
	case e.prefix == "":
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
	r := p.routes.Lookup(key)
	if r == nil {
		return nil, &relay.Refusal{Reason: noRoute, Alert: alertUnrecognizedName}
	}
	return r, nil
}

// Rejected is relay.Policy.
func (p *policy) Rejected(in relay.Incoming, why relay.Reason) {
	e := in.Listener.Tag.(*entrance)
	p.metrics.ended(e.kind, why)
	if why == relay.Overload {
		p.overload.Add(1)
	}
	if in.Hello == nil {
		return // nothing was sent: a health check of a load balancer, or a port scan
	}
	entry := entry{Client: in.Client, Via: in.Via, Listener: e.kind, Address: in.Dialled, Reason: why}
	if name, err := in.Hello.ServerName(); err == nil {
		entry.SNI = string(name)
	}
	if why == stranger || why == tooMany || why == asleep {
		if r, _ := p.find(e, in); r != nil {
			entry.Route = r.Name
		}
	}
	p.log.write(&entry)
}

// Group is relay.Flow.
func (f *flow) Group() *relay.Group { return &f.route.Group }

// Meter is relay.Flow.
func (f *flow) Meter() *relay.Meter { return &f.backend.Account.Bytes }

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
		Client: f.client, Via: f.via, Listener: f.entrance.kind, SNI: f.sni, Route: f.route.Name, Reason: s.Reason,
		Sent: s.Sent, Received: s.Received, DurationMS: s.Duration.Milliseconds(), UpstreamLocalPort: s.Local.Port(),
	}
	if f.endpoint != nil {
		entry.Upstream = f.endpoint.Addr
		f.backend.Return(f.endpoint, f.client.Addr(), f.konnectivity)
	}
	p.metrics.active[f.entrance.kind].Dec()
	f.backend.Account.Release(f.side)
	p.metrics.ended(f.entrance.kind, s.Reason)
	p.log.write(&entry)
}
