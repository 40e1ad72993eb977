// SPDX-License-Identifier: Apache-2.0

// Package ads follows an xDS control plane: one aggregated delta stream, reopened for ever.
package ads

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/bootstrap"
)

const (
	// backoffMin and backoffMax bound the pause between two streams; half of it is random, so that the
	// gateways of a site do not come back to a restarted control plane in the same moment.
	backoffMin = 200 * time.Millisecond
	backoffMax = 15 * time.Second
	// pingAfter and pingTimeout find a control plane that vanished without closing the stream. The
	// server allows a ping every 10 s.
	pingAfter   = 30 * time.Second
	pingTimeout = 10 * time.Second
)

// Store takes what the control plane says. One goroutine calls it.
type Store interface {
	// Versions are the names and versions of the resources of a type that are known from before.
	Versions(typeURL string) map[string]string
	// Apply adds or replaces resources and removes others. What it cannot use it leaves out, and
	// says so in the error, which is sent to the control plane.
	Apply(typeURL string, changed []*discoveryv3.Resource, removed []string) error
}

// Client follows the control plane of a bootstrap file.
type Client struct {
	Node   bootstrap.Node
	XDS    bootstrap.XDS
	Agent  string   // user_agent_name and version, for the logs of the control plane
	Types  []string // type URLs, all subscribed as a whole
	Store  Store
	Log    *slog.Logger
	Status func(connected bool) // told of every change; may be nil
}

// Run follows until ctx is done. The stream is opened with the certificates that are on disk then.
func (c *Client) Run(ctx context.Context) {
	pause := backoffMin
	for ctx.Err() == nil {
		answered, err := c.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if answered {
			pause = backoffMin
		}
		c.Log.Warn("Lost the control plane, keeping the routes as they are", "address", c.XDS.Address, "error", err, "retryIn", pause.String())
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, backoffMax)
	}
}

// follow serves one stream until it breaks. True when the control plane answered at all.
func (c *Client) follow(ctx context.Context) (answered bool, err error) {
	config, err := c.XDS.TLS()
	if err != nil {
		return false, err
	}
	conn, err := grpc.NewClient(c.XDS.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout}),
	)
	if err != nil {
		return false, fmt.Errorf("making a client for %s: %w", c.XDS.Address, err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return false, fmt.Errorf("opening the stream: %w", err)
	}
	for _, t := range c.Types {
		if err := stream.Send(c.subscribe(t)); err != nil {
			return false, streamError(stream, err)
		}
	}
	defer c.tell(false)
	for {
		response, err := stream.Recv()
		if err != nil {
			return answered, fmt.Errorf("receiving: %w", err)
		}
		if !answered {
			answered = true
			c.Log.Info("Following the control plane", "address", c.XDS.Address)
			c.tell(true)
		}
		if err := stream.Send(c.take(response)); err != nil {
			return answered, streamError(stream, err)
		}
	}
}

// streamError finds out why Send failed; gRPC tells it to Recv only.
func streamError(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, err error) error {
	if _, received := stream.Recv(); received != nil {
		err = received
	}
	return fmt.Errorf("sending: %w", err)
}

// subscribe asks for everything of a type; naming no resource in the first request means that. What is
// known already is not sent again.
func (c *Client) subscribe(typeURL string) *discoveryv3.DeltaDiscoveryRequest {
	return &discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{
			Id: c.Node.ID(), Cluster: c.Node.Gateway, UserAgentName: c.Agent,
		},
		TypeUrl:                 typeURL,
		InitialResourceVersions: c.Store.Versions(typeURL),
	}
}

// take hands a response to the store and returns the acknowledgement.
func (c *Client) take(response *discoveryv3.DeltaDiscoveryResponse) *discoveryv3.DeltaDiscoveryRequest {
	ack := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.GetTypeUrl(), ResponseNonce: response.GetNonce()}
	err := c.Store.Apply(response.GetTypeUrl(), response.GetResources(), response.GetRemovedResources())
	if err != nil {
		c.Log.Error("The control plane sent resources that cannot be used", "type", response.GetTypeUrl(), "error", err)
		ack.ErrorDetail = &statuspb.Status{Code: int32(codes.InvalidArgument), Message: truncate(err)}
	}
	return ack
}

// truncate keeps an error short enough for a gRPC message, however many resources it is about.
func truncate(err error) string {
	const limit = 4 << 10
	text := err.Error()
	return text[:min(len(text), limit)]
}

func (c *Client) tell(connected bool) {
	if c.Status != nil {
		c.Status(connected)
	}
}

// ErrUnknownType is what a Store returns for a type that it did not subscribe to.
var ErrUnknownType = errors.New("unknown resource type")
