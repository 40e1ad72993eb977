// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/controller-runtime/pkg/log"

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
		grpc.Creds(reporting{credentials.NewTLS(config), log.FromContext(ctx)}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: pingAfter, Timeout: pingTimeout, MaxConnectionAge: streamAge, MaxConnectionAgeGrace: streamGrace,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingMin, PermitWithoutStream: true}),
	)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(grpcServer, &service{state: s.State, log: log.FromContext(ctx)})
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		grpcServer.Stop()
	}()
	// A context that ends before this is reached has stopped the server already.
	if err := grpcServer.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving xDS on %s: %w", lis.Addr(), err)
	}
	<-done
	return nil
}

// service answers data planes.
type service struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	state *State
	log   logr.Logger
}

// StreamAggregatedResources refuses the protocol that sends everything for every change.
func (*service) StreamAggregatedResources(discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return status.Error(codes.Unimplemented, "only delta ADS is served: set api_type DELTA_GRPC")
}

// DeltaAggregatedResources follows the gateway that the client certificate names.
func (s *service) DeltaAggregatedResources(wire discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	gateway, err := identity(wire.Context())
	if err != nil {
		refusals.WithLabelValues(stranger).Inc()
		return err
	}
	st := s.state.follow(gateway)
	if st == nil {
		return status.Errorf(codes.NotFound, "there is no gateway %q", gateway)
	}
	defer st.end()
	streams.WithLabelValues(gateway).Inc()
	defer streams.WithLabelValues(gateway).Dec()
	ended := make(chan error, 1)
	go func() { ended <- s.receive(wire, st, gateway) }()
	for nonce := uint64(0); ; {
		select {
		case err := <-ended:
			return err
		case <-st.bell:
		}
		for response := st.next(); response != nil; response = st.next() {
			nonce++
			response.Nonce = strconv.FormatUint(nonce, 10)
			if err := wire.Send(response); err != nil {
				return err
			}
		}
	}
}

// receive takes requests until the stream ends.
func (s *service) receive(wire discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer, st *stream, gateway string) error {
	node := ""
	for {
		req, err := wire.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if req.GetNode() != nil || node == "" {
			node = req.GetNode().GetId()
			if err := checkNode(node, gateway); err != nil {
				refusals.WithLabelValues(stranger).Inc()
				s.log.Info("refused a data plane", "node", node, "certificate", gateway, "error", err.Error())
				return err
			}
		}
		if detail := req.GetErrorDetail(); detail != nil {
			rejections.WithLabelValues(gateway, req.GetTypeUrl()).Inc()
			s.log.Info("a data plane refused resources", "node", node, "type", req.GetTypeUrl(), "error", detail.GetMessage())
		}
		if err := st.request(req); err != nil {
			return err
		}
	}
}

// identity is the gateway in the client's certificate.
func identity(ctx context.Context) (string, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", status.Error(codes.Unauthenticated, "connection has no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return "", status.Error(codes.Unauthenticated, "connection has no client certificate")
	}
	gateway, err := route.GatewayOfIdentity(info.State.PeerCertificates[0].URIs)
	if err != nil {
		return "", status.Error(codes.PermissionDenied, err.Error())
	}
	return gateway, nil
}

// checkNode compares the gateway that a data plane names with the one in its certificate.
func checkNode(node, identity string) error {
	gateway, err := route.GatewayOf(node)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if gateway != identity {
		return status.Errorf(codes.PermissionDenied, "node.id names gateway %q, the certificate %q", gateway, identity)
	}
	return nil
}
