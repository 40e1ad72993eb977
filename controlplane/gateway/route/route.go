// SPDX-License-Identifier: Apache-2.0

package route

import (
	"cmp"
	"net/netip"
	"slices"
)

// Names of the ports of a tenant's Service, and so of its EndpointSlices.
const (
	// PortAPIServer is where kube-apiserver listens.
	PortAPIServer = "kube-apiserver"
	// PortKonnectivity is where konnectivity-server takes agents.
	PortKonnectivity = "konnectivity-server"
)

// Gateway is the part of a gateway that all its tenants share.
type Gateway struct {
	Name                          string
	PublicAddress, PrivateAddress netip.Addr
	// Port is the one on which tenants are told apart by host name, on both addresses.
	Port uint16
}

// Tenant is what a gateway knows of one tenant control plane. Host names are normalized.
type Tenant struct {
	Namespace, Name string
	// Gateway is the name of the gateway that serves the tenant.
	Gateway string
	// Hostname is served on both listeners, AdditionalHostnames on the public one only.
	Hostname            string
	AdditionalHostnames []string
	// Port is the tenant's own on the private address.
	Port uint16
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

// Route sends the connections of Key to the endpoints of Backend.
type Route struct {
	Key Key
	// Backend is the name of the group of endpoints: see BackendName.
	Backend string
}

// BackendName names the group of endpoints of one port of a tenant's Service: <namespace>/<tenant>/<port name>. It is the name
// of the xDS ClusterLoadAssignment that all routes to these endpoints share.
func BackendName(namespace, tenant, port string) string {
	return namespace + "/" + tenant + "/" + port
}

// Routes lists what the gateway does for a tenant, sorted by the name of the key: its host name and own port, each with and without
// ALPNKonnectivity, and its additional host names on the public listener, for the API server only.
func Routes(t Tenant) []Route {
	api := BackendName(t.Namespace, t.Name, PortAPIServer)
	konnectivity := BackendName(t.Namespace, t.Name, PortKonnectivity)
	routes := []Route{
		{HostKey(Public, t.Hostname, false), api},
		{HostKey(Public, t.Hostname, true), konnectivity},
		{HostKey(Private, t.Hostname, false), api},
		{HostKey(Private, t.Hostname, true), konnectivity},
		{PortKey(t.Port, false), api},
		{PortKey(t.Port, true), konnectivity},
	}
	for _, host := range t.AdditionalHostnames {
		routes = append(routes, Route{HostKey(Public, host, false), api})
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
