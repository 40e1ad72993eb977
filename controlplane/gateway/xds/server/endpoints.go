// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

// Backends are the endpoints of a tenant's Service that may have connections: ready ones get new ones, those that still serve while they
// terminate keep what they have. Ports without a name of ours and addresses that are no IPs are left out.
func Backends(list []discoveryv1.EndpointSlice) route.Backends {
	return backends(list, route.PortAPIServer, route.PortKonnectivity)
}

// backends are the endpoints by the given names of ports.
func backends(list []discoveryv1.EndpointSlice, names ...string) route.Backends {
	backends := route.Backends{}
	for _, slice := range list {
		for _, port := range slice.Ports {
			name := ptr.Deref(port.Name, "")
			if port.Port == nil || !slices.Contains(names, name) {
				continue
			}
			for _, endpoint := range slice.Endpoints {
				ready := ptr.Deref(endpoint.Conditions.Ready, true)
				draining := !ready && ptr.Deref(endpoint.Conditions.Serving, false) && ptr.Deref(endpoint.Conditions.Terminating, false)
				if !ready && !draining {
					continue
				}
				for _, address := range endpoint.Addresses {
					ip, err := netip.ParseAddr(address)
					if err != nil {
						continue
					}
					backends[name] = append(backends[name], route.Endpoint{Address: ip, Port: uint16(*port.Port), Draining: draining})
				}
			}
		}
	}
	for name, endpoints := range backends {
		backends[name] = route.SortEndpoints(endpoints)
	}
	return backends
}
