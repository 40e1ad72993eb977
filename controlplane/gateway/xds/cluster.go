// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

const (
	// PolicyMetadata is the key in metadata.filter_metadata under which a cluster has its route's policy, and a listener the Protection,
	// for the embedded data plane.
	PolicyMetadata = "kamaji.gateway"
	// sourcesField holds the networks, a list of strings, from which connections are taken.
	sourcesField = "sources"
	// connectTimeout bounds one attempt; backends are pods in the same cluster.
	connectTimeout = time.Second
	// Three failed connects in a row take a backend out for five seconds: sooner than EndpointSlices notice a lost node.
	failuresToEject = 3
	ejectionTime    = 5 * time.Second
	failureInterval = time.Second
)

// Cluster is the cluster of a route.
func Cluster(r route.Route) *clusterv3.Cluster {
	limit := cmp.Or(r.Policy.MaxConnections, route.DefaultMaxConnections)
	return &clusterv3.Cluster{
		Name:                 r.Key.String(),
		Metadata:             policyMetadata(r.Policy),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{
			ServiceName: r.Backend,
			EdsConfig:   overADS(),
		},
		ConnectTimeout: durationpb.New(connectTimeout),
		// Round robin would leave a new replica idle after a rolling update, since connections live for hours.
		LbPolicy: clusterv3.Cluster_LEAST_REQUEST,
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: wrapperspb.UInt32(limit), MaxPendingRequests: wrapperspb.UInt32(limit),
		}}},
		// No panic mode: a connection to a backend known to be down only delays the client's retry.
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{}},
		OutlierDetection: &clusterv3.OutlierDetection{
			SplitExternalLocalOriginErrors: true,
			ConsecutiveLocalOriginFailure:  wrapperspb.UInt32(failuresToEject),
			Interval:                       durationpb.New(failureInterval),
			BaseEjectionTime:               durationpb.New(ejectionTime),
			MaxEjectionTime:                durationpb.New(ejectionTime),
		},
		UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
			KeepaliveTime: wrapperspb.UInt32(keepIdle), KeepaliveInterval: wrapperspb.UInt32(keepInterval), KeepaliveProbes: wrapperspb.UInt32(keepCount),
		}},
	}
}

// policyMetadata is the part of a policy that has no field in a cluster, or nil when there is none.
func policyMetadata(p route.Policy) *corev3.Metadata {
	if len(p.Sources) == 0 {
		return nil
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		PolicyMetadata: {Fields: map[string]*structpb.Value{sourcesField: networks(p.Sources)}},
	}}
}

// PolicyOf is the policy of the route that a cluster is for. It fails for networks that are none: taking such a cluster without them
// would let everybody in.
func PolicyOf(c *clusterv3.Cluster) (route.Policy, error) {
	var p route.Policy
	for _, threshold := range c.GetCircuitBreakers().GetThresholds() {
		if limit := threshold.GetMaxConnections(); limit != nil && threshold.GetPriority() == corev3.RoutingPriority_DEFAULT {
			p.MaxConnections = limit.GetValue()
		}
	}
	metadata, ok := c.GetMetadata().GetFilterMetadata()[PolicyMetadata]
	if !ok {
		return p, nil
	}
	for _, value := range metadata.GetFields()[sourcesField].GetListValue().GetValues() {
		source, err := netip.ParsePrefix(value.GetStringValue())
		if err != nil {
			return route.Policy{}, fmt.Errorf("metadata %s: %w", PolicyMetadata, err)
		}
		p.Sources = append(p.Sources, source)
	}
	if len(p.Sources) == 0 {
		return route.Policy{}, fmt.Errorf("metadata %s holds no networks in %q", PolicyMetadata, sourcesField)
	}
	return p, nil
}

// Assignment is the endpoints of one backend name (see route.BackendName), in the order given.
func Assignment(name string, endpoints []route.Endpoint) *endpointv3.ClusterLoadAssignment {
	a := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	if len(endpoints) == 0 {
		return a
	}
	locality := &endpointv3.LocalityLbEndpoints{}
	for _, e := range endpoints {
		health := corev3.HealthStatus_HEALTHY
		if e.Draining {
			health = corev3.HealthStatus_DRAINING
		}
		locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
			HealthStatus:   health,
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socketAddress(e.Address, e.Port)}},
		})
	}
	a.Endpoints = []*endpointv3.LocalityLbEndpoints{locality}
	return a
}
