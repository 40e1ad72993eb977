// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

const (
	// MaxConnections is the limit of open connections per route and data plane instance. A worker node holds fewer than ten, so this
	// serves thousands of nodes while one tenant can't take all of a gateway's. Envoy's own default of 1024 is too low.
	MaxConnections = 32768
	// connectTimeout bounds one attempt; backends are pods in the same cluster.
	connectTimeout = time.Second
	// Three failed connects in a row take a backend out for five seconds: sooner than EndpointSlices notice a lost node.
	failuresToEject = 3
	ejectionTime    = 5 * time.Second
	failureInterval = time.Second
)

// Cluster is the cluster of a route.
func Cluster(r route.Route) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 r.Key.String(),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{
			ServiceName: r.Backend,
			EdsConfig: &corev3.ConfigSource{
				ResourceApiVersion:    corev3.ApiVersion_V3,
				ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
			},
		},
		ConnectTimeout: durationpb.New(connectTimeout),
		// Round robin would leave a new replica idle after a rolling update, since connections live for hours.
		LbPolicy: clusterv3.Cluster_LEAST_REQUEST,
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: wrapperspb.UInt32(MaxConnections), MaxPendingRequests: wrapperspb.UInt32(MaxConnections),
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
