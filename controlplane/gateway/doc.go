// SPDX-License-Identifier: Apache-2.0

// Package gateway reconciles KamajiGateways and gives tenants their address on one.
//
//	Gateway   addresses of a KamajiGateway are checked, its data plane is deployed, its tenants counted
//	Tenant    a TenantControlPlane that names a gateway gets host names and a port; status.kamajiGateway says which
//	Lease     a port whose tenant is gone is released, and free for others 24 hours later
//
// The packages below: route is the pure model, xds the resources made from it, xds/server serves them from every replica, and
// dataplane forwards connections. A route appears as soon as status.kamajiGateway and the tenant's EndpointSlices are there.
package gateway
