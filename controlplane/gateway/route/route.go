// SPDX-License-Identifier: Apache-2.0

package route

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Names of the ports of a tenant's Service, and so of its EndpointSlices.
const (
	// PortAPIServer is where kube-apiserver listens.
	PortAPIServer = "kube-apiserver"
	// PortKonnectivity is where konnectivity-server takes agents.
	PortKonnectivity = "konnectivity-server"
)

// Awaited names the group of endpoints of a tenant that a connection can wake: those of PortAPIServer while one of them takes
// connections, and else the activator's, which is a server of ours that answers in their place.
const Awaited = "kube-apiserver-or-activator"

// Gateway is the part of a gateway that all its tenants share.
type Gateway struct {
	Name                          string
	PublicAddress, PrivateAddress netip.Addr
	// Port is the one on which tenants are told apart by host name, on both addresses.
	Port uint16
	// PrivatePrefix holds the private addresses that are a tenant's own; the zero Prefix when tenants have none.
	PrivatePrefix netip.Prefix
	// AddressesOnly closes the ports of tenants that have an address of PrivatePrefix.
	AddressesOnly bool
	// Public and Private are for tenants that have no policy of their own, by listener.
	Public, Private Policy
	// Limits protect each of its data planes.
	Limits Limits
	// PublicProxies and PrivateProxies are networks of load balancers in front of the gateway, as SortSources leaves them: connections
	// from there begin with a PROXY protocol header.
	PublicProxies, PrivateProxies []netip.Prefix
}

// Limits of one data plane instance. Zero values leave them to the data plane.
type Limits struct {
	// Connections that may be open at once, and PendingConnections those of them without their ClientHello.
	Connections, PendingConnections uint32
	// ConnectionAge is how long a connection may last.
	ConnectionAge time.Duration
}

// SameListeners tells whether two gateways listen alike: no policy is part of a listener.
func (g Gateway) SameListeners(o Gateway) bool {
	return g.Limits == o.Limits && slices.Equal(g.PublicProxies, o.PublicProxies) && slices.Equal(g.PrivateProxies, o.PrivateProxies) && g.Name == o.Name && g.PublicAddress == o.PublicAddress && g.PrivateAddress == o.PrivateAddress && g.Port == o.Port && g.PrivatePrefix == o.PrivatePrefix
}

// Tenant is what a gateway knows of one tenant control plane. Host names are normalized.
type Tenant struct {
	Namespace, Name string
	// Gateway is the name of the gateway that serves the tenant.
	Gateway string
	// Hostname is served on both listeners, AdditionalHostnames on the public one only.
	Hostname            string
	AdditionalHostnames []string
	// Port is the tenant's own on the private address; 0 when it is closed.
	Port uint16
	// Address is the tenant's own, out of the gateway's PrivatePrefix; the zero Addr when it has none.
	Address netip.Addr
	// PrivateOnly tenants have no route on the public listener.
	PrivateOnly bool
	// Wake leads connections by host name to the activator while no API server takes any. It picks the tenant by that name, which
	// connections to the tenant's own port or address don't have to send.
	Wake bool
	// Public and Private say who may connect, by listener.
	Public, Private Policy
}

// Policy says who may connect by one route.
type Policy struct {
	// Sources are the networks that connections are taken from; without any, from everywhere. See SortSources.
	Sources []netip.Prefix
	// MaxConnections is how many connections of the tenant may be open by all routes of the listener's side, per data plane instance;
	// 0: DefaultMaxConnections.
	MaxConnections uint32
}

// DefaultMaxConnections limits the open connections of a tenant that has no limit of its own, on each side. A worker node holds fewer than ten, so
// this serves thousands of nodes while one tenant can't take all of a gateway's. Envoy's own default of 1024 is too low.
const DefaultMaxConnections = 32768

// Or is p with the fields of fallback where p has none.
func (p Policy) Or(fallback Policy) Policy {
	if len(p.Sources) == 0 {
		p.Sources = fallback.Sources
	}
	p.MaxConnections = cmp.Or(p.MaxConnections, fallback.MaxConnections)
	return p
}

// Equal tells whether two policies let the same connections in.
func (p Policy) Equal(o Policy) bool {
	return p.MaxConnections == o.MaxConnections && slices.Equal(p.Sources, o.Sources)
}

// SortSources brings networks into the one form that is compared: masked, sorted, without duplicates and networks inside others.
func SortSources(sources []netip.Prefix) []netip.Prefix {
	masked := make([]netip.Prefix, 0, len(sources))
	for _, p := range sources {
		masked = append(masked, p.Masked())
	}
	// Before a network come all that could contain it: a lower or equal address, and fewer bits when the address is equal.
	slices.SortFunc(masked, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, p := range masked {
		if n := len(out); n == 0 || !out[n-1].Contains(p.Addr()) {
			out = append(out, p)
		}
	}
	return out
}

// Endpoint is one backend of a tenant.
type Endpoint struct {
	Address netip.Addr
	Port    uint16
	// Draining is true while the backend still serves open connections but should get no new ones.
	Draining bool
}

// Backends are the endpoints of one tenant's Service by the name of its port.
type Backends map[string][]Endpoint

// Group is one of Tenant.Groups. Activator are the endpoints of the activator.
func (b Backends) Group(name string, activator []Endpoint) []Endpoint {
	own := b[name]
	if name != Awaited {
		return own
	}
	own = b[PortAPIServer]
	if slices.ContainsFunc(own, func(e Endpoint) bool { return !e.Draining }) {
		return own
	}
	return SortEndpoints(slices.Concat(own, activator))
}

// Route sends the connections of Key to the endpoints of Backend.
type Route struct {
	Key Key
	// Backend is the name of the group of endpoints: see BackendName.
	Backend string
	// Policy says who may connect.
	Policy Policy
}

// Equal tells whether two routes are the same.
func (r Route) Equal(o Route) bool {
	return r.Key == o.Key && r.Backend == o.Backend && r.Policy.Equal(o.Policy)
}

// BackendName names the group of endpoints of one port of a tenant's Service: <namespace>/<tenant>/<port name>. It is the name
// of the xDS ClusterLoadAssignment that all routes to these endpoints share. Awaited takes the place of a port name.
func BackendName(namespace, tenant, port string) string {
	return namespace + "/" + tenant + "/" + port
}

// TenantOf is the tenant in a BackendName, <namespace>/<tenant>.
func TenantOf(backend string) string {
	if i := strings.LastIndexByte(backend, '/'); i > 0 {
		return backend[:i]
	}
	return backend
}

// Groups are all groups of endpoints that a tenant may have.
func Groups() []string { return []string{PortAPIServer, PortKonnectivity, Awaited} }

// Groups are the groups of endpoints that a tenant has: the names of ports, and Awaited for one that can be woken.
func (t Tenant) Groups() []string {
	if t.Wake {
		return Groups()
	}
	return []string{PortAPIServer, PortKonnectivity}
}

// Routes lists what the gateway does for a tenant, sorted by the name of the key: its host name, own port and own address, each with and
// without ALPNKonnectivity, and its additional host names on the public listener, for the API server only.
func Routes(t Tenant) []Route {
	api := BackendName(t.Namespace, t.Name, PortAPIServer)
	konnectivity := BackendName(t.Namespace, t.Name, PortKonnectivity)
	named := api
	if t.Wake {
		named = BackendName(t.Namespace, t.Name, Awaited)
	}
	routes := []Route{
		{HostKey(Private, t.Hostname, false), named, t.Private},
		{HostKey(Private, t.Hostname, true), konnectivity, t.Private},
	}
	if t.Port != 0 {
		routes = append(routes,
			Route{PortKey(t.Port, false), api, t.Private},
			Route{PortKey(t.Port, true), konnectivity, t.Private})
	}
	if t.Address.IsValid() {
		routes = append(routes,
			Route{AddressKey(t.Address, false), api, t.Private},
			Route{AddressKey(t.Address, true), konnectivity, t.Private})
	}
	if !t.PrivateOnly {
		routes = append(routes,
			Route{HostKey(Public, t.Hostname, false), named, t.Public},
			Route{HostKey(Public, t.Hostname, true), konnectivity, t.Public})
		for _, host := range t.AdditionalHostnames {
			routes = append(routes, Route{HostKey(Public, host, false), named, t.Public})
		}
	}
	slices.SortFunc(routes, func(a, b Route) int { return cmp.Compare(a.Key.String(), b.Key.String()) })
	return slices.CompactFunc(routes, func(a, b Route) bool { return a.Key == b.Key })
}

// SortEndpoints brings endpoints into the one order in which they are served, without duplicates.
func SortEndpoints(endpoints []Endpoint) []Endpoint {
	slices.SortFunc(endpoints, func(a, b Endpoint) int {
		if c := a.Address.Compare(b.Address); c != 0 {
			return c
		}
		return cmp.Compare(a.Port, b.Port)
	})
	return slices.CompactFunc(endpoints, func(a, b Endpoint) bool { return a.Address == b.Address && a.Port == b.Port })
}
