// SPDX-License-Identifier: Apache-2.0

// Package xds turns gateways and routes into Envoy resources. It is pure; package xds/server serves them.
//
// # The contract with data planes
//
// The embedded data plane and Envoy (1.34 or newer) read the same resources over one delta ADS stream with mutual TLS (TLS 1.3,
// gRPC, port 18000). node.id is <gateway> or <gateway>/<instance> (route.NodeID), the client certificate carries the URI
// spiffe://kamaji/gateway/<gateway> (route.Identity), the server's certificate the DNS name it was dialled by. The server closes
// a stream whose node.id and certificate name different gateways, or a gateway that doesn't exist.
//
// LDS, wildcard: two listeners, or three when spec.privatePrefix is set, which stay byte-identical whatever tenants do:
//
//	name     address of the listener          who
//	public   spec.publicAddress:spec.port     customers, by host name
//	private  spec.privateAddress:spec.port    workers, by host name; the same address also takes each tenant's own port
//	prefix   0.0.0.0:spec.port or [::]:…      workers, by destination address, which lies in filter_chain_match.prefix_ranges
//
// listener.metadata.filter_metadata["kamaji.gateway"], where it is set, has the limits of the whole data plane (connections,
// pendingConnections, connectionAgeSeconds) and proxies, the networks from which connections begin with a PROXY protocol header. Both can
// change under open connections; gateways served by Envoy have none. See ProtectionOf.
//
// A data plane takes its addresses and the shared port from these, never from its own configuration. It serves the prefix with one
// socket on the wildcard address, where the prefix is local by a route (ip route add local <prefix> dev lo), or with a socket for
// each address that a cluster names, bound with IP_FREEBIND. A destination outside the prefix is no tenant's.
//
// CDS, wildcard: one EDS cluster per route. Its name is the key of the route (route.Key, route.ParseKey):
//
//	public|sni|<host>                  connection to the public address, server name <host>
//	private|sni|<host>                 connection to the private address on the shared port, server name <host>
//	private|port|<port>                connection to the private address on <port>, whatever server name it has, or none
//	private|ip|<address>               connection to <address> in the prefix, whatever server name it has, or none
//	…|konnectivity                     the same four, when the client offers ALPN protocol "konnectivity"
//
// <host> is normalized (route.NormalizeHost: lower case, no trailing dot). The public listener never routes by port.
// The set of private|port|<port> clusters is the set of tenant ports to listen on, that of private|ip|<address> clusters the set of
// addresses. A connection that has no cluster is closed
// (the embedded data plane answers with the TLS alert unrecognized_name first). Clusters of other names are to be ignored.
// A connection without ALPN "konnectivity" never falls back to a |konnectivity cluster, nor the other way round.
//
// cluster.eds_cluster_config.service_name names the endpoints: <namespace>/<tenant>/kube-apiserver or
// <namespace>/<tenant>/konnectivity-server (route.BackendName), shared by all routes of the tenant to that port. Routes by host name to the
// API server of a tenant that connections can wake have <namespace>/<tenant>/kube-apiserver-or-activator instead (route.Awaited): while no
// API server takes connections, its endpoints that do are the activator's.
// cluster.circuit_breakers.thresholds[0].max_connections is the limit of the tenant's open connections per data plane instance: by all its
// public|… clusters together, or by all its private|… clusters. Envoy counts those of each cluster by themselves.
// cluster.metadata.filter_metadata["kamaji.gateway"].sources, where it is set, lists the networks (address/bits) from which the route
// takes connections; from elsewhere they are closed before a byte is sent to the tenant. See PolicyOf.
// cluster.connect_timeout bounds one connection attempt. lb_policy is LEAST_REQUEST: the endpoint with the fewest open connections.
//
// EDS, by service_name or wildcard: one ClusterLoadAssignment with a single locality. health_status HEALTHY takes new connections;
// DRAINING keeps those it has and gets no new ones. A tenant without endpoints has an assignment without any.
//
// ECDS, by name, for Envoy: the lists of who may connect (AccessList), the same networks as in the clusters' metadata. They are made when
// a data plane asks for the first of them. Envoy closes connections while it has none.
//
// Every resource is removed when its tenant or gateway is. A data plane that lost the stream keeps what it has, also over a restart.
//
// # How Envoy comes to the same answer
//
// Each listener has a TLS inspector and fixed filter chains, told apart by destination port, destination address and ALPN. A chain
// computes the name of the cluster into the filter state envoy.tcp_proxy.cluster (set_filter_state), from %REQUESTED_SERVER_NAME%,
// %DOWNSTREAM_LOCAL_PORT% or %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%, always behind a fixed prefix. sni_cluster is never used: with
// it a client could name any cluster, such as the one of xDS. Envoy brings server names to lower case itself, and replaces every
// character of them that no host name has, so "|" can't come from a client.
// Tenant ports reach Envoy's private listener by a redirect on the gateway node; the original_dst filter restores the port.
//
// The first filter of each chain is RBAC over ECDS. It compares the client's address with the networks of the server name, port or
// address, at the first byte; until then tcp_proxy may have opened a connection to the tenant, but nothing passes.
//
// What differs: an unknown name gets no TLS alert, a server name with a trailing dot (which RFC 6066 forbids) is unknown, an endpoint
// is one of two chosen at random, the one with fewer connections, and konnectivity agents need more dials to reach every server.
package xds
