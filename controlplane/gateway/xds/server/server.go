// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

const (
	// pingAfter and pingTimeout find data planes that vanished; pingMin is the shortest period at which they may ping.
	pingAfter, pingTimeout, pingMin = 30 * time.Second, 10 * time.Second, 10 * time.Second
	// streamAge closes a connection now and then, so that data planes spread over replicas and come back with a current certificate.
	// They say which resources they have, so coming back costs nothing.
	streamAge, streamGrace = 6 * time.Hour, time.Minute
)

// Server speaks delta ADS.
type Server struct {
	State *State
	// TLS is the server's side of mutual TLS.
	TLS TLSFiles
}

// Serve answers data planes on lis until ctx ends; lis is closed then.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	config, err := s.TLS.Config()
	if err != nil {
		return err
	}
	grpcServer := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(config)),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: pingAfter, Timeout: pingTimeout, MaxConnectionAge: streamAge, MaxConnectionAgeGrace: streamGrace,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingMin, PermitWithoutStream: true}),
	)
	xds := serverv3.NewServer(ctx, byGateway{s.State}, &gate{state: s.State, streams: map[int64]string{}})
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(grpcServer, xds)
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		grpcServer.Stop()
	}()
	if err := grpcServer.Serve(lis); err != nil {
		return fmt.Errorf("serving xDS on %s: %w", lis.Addr(), err)
	}
	<-done
	return nil
}

// byGateway finds the cache for a request by its node.id, which gate has compared with the certificate.
type byGateway struct{ state *State }

var _ cachev3.Cache = byGateway{}

func (b byGateway) CreateDeltaWatch(req *cachev3.DeltaRequest, sub cachev3.Subscription, out chan cachev3.DeltaResponse) (func(), error) {
	gateway, err := route.GatewayOf(req.GetNode().GetId())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	r, err := b.state.asked(gateway, req.GetTypeUrl())
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if r == nil {
		return nil, status.Errorf(codes.NotFound, "there is no gateway %q", gateway)
	}
	if _, ok := r.mux.Caches[req.GetTypeUrl()]; !ok {
		return nil, status.Errorf(codes.InvalidArgument, "type %q is not served", req.GetTypeUrl())
	}
	return r.mux.CreateDeltaWatch(req, sub, out)
}

func (byGateway) CreateWatch(*cachev3.Request, cachev3.Subscription, chan cachev3.Response) (func(), error) {
	return nil, errDeltaOnly
}

func (byGateway) Fetch(context.Context, *cachev3.Request) (cachev3.Response, error) {
	return nil, errDeltaOnly
}

var errDeltaOnly = status.Error(codes.Unimplemented, "only delta ADS is served: set api_type DELTA_GRPC")

// gate lets a stream through only if its certificate and its node.id name the same, existing gateway.
type gate struct {
	serverv3.CallbackFuncs
	state *State

	mu sync.Mutex
	// streams holds the gateway in the certificate of each open stream.
	streams map[int64]string
}

func (g *gate) OnStreamOpen(context.Context, int64, string) error { return errDeltaOnly }

func (g *gate) OnDeltaStreamOpen(ctx context.Context, id int64, typeURL string) error {
	if typeURL != resourcev3.AnyType {
		return errDeltaOnly
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return status.Error(codes.Unauthenticated, "connection has no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return status.Error(codes.Unauthenticated, "connection has no client certificate")
	}
	gateway, err := route.GatewayOfIdentity(info.State.PeerCertificates[0].URIs)
	if err != nil {
		return status.Error(codes.PermissionDenied, err.Error())
	}
	if !g.state.Known(gateway) {
		return status.Errorf(codes.NotFound, "there is no gateway %q", gateway)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.streams[id] = gateway
	streams.WithLabelValues(gateway).Inc()
	return nil
}

func (g *gate) OnStreamDeltaRequest(id int64, req *discoveryv3.DeltaDiscoveryRequest) error {
	g.mu.Lock()
	identity := g.streams[id]
	g.mu.Unlock()
	if detail := req.GetErrorDetail(); detail != nil {
		rejections.WithLabelValues(identity, req.GetTypeUrl()).Inc()
	}
	if req.GetNode() == nil {
		return nil
	}
	gateway, err := route.GatewayOf(req.GetNode().GetId())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if gateway != identity {
		return status.Errorf(codes.PermissionDenied, "node.id names gateway %q, the certificate %q", gateway, identity)
	}
	return nil
}

func (g *gate) OnDeltaStreamClosed(id int64, _ *corev3.Node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if gateway, ok := g.streams[id]; ok {
		streams.WithLabelValues(gateway).Dec()
		delete(g.streams, id)
	}
}
