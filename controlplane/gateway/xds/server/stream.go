// SPDX-License-Identifier: Apache-2.0

package server

import (
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// stream is one data plane that follows a gateway.
type stream struct {
	state *State
	// resources are those of the gateway that the data plane's certificate names.
	resources     *resources
	subscriptions map[string]*subscription
	// bell rings when a response may be due.
	bell chan struct{}
}

// follow opens a stream for a data plane of a gateway, or nothing when there is no such gateway.
func (s *State) follow(gateway string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.gateways[gateway]
	if r == nil || r.gateway.Name == "" {
		return nil
	}
	return &stream{state: s, resources: r, subscriptions: map[string]*subscription{}, bell: make(chan struct{}, 1)}
}

func (st *stream) ring() {
	select {
	case st.bell <- struct{}{}:
	default:
	}
}

// request takes what a data plane asks for.
func (st *stream) request(req *discoveryv3.DeltaDiscoveryRequest) error {
	st.state.mu.Lock()
	defer st.state.mu.Unlock()
	if req.GetTypeUrl() == resourcev3.ExtensionConfigType {
		if err := st.resources.access.ask(); err != nil {
			return status.Error(codes.Internal, err.Error())
		}
	}
	t := st.resources.table(req.GetTypeUrl())
	if t == nil {
		return status.Errorf(codes.InvalidArgument, "type %q is not served", req.GetTypeUrl())
	}
	s := st.subscriptions[t.typeURL]
	if s == nil {
		s = &subscription{table: t, stream: st, names: map[string]struct{}{}, owed: map[string]struct{}{}}
		st.subscriptions[t.typeURL] = s
		s.first(req)
		return nil
	}
	s.update(req)
	return nil
}

// next is the next response, or nil when nothing is due. Endpoints and who may connect go before the clusters they are about, and all
// before listeners: a data plane that starts takes connections only when it knows where they lead. Clusters that are gone go first.
func (st *stream) next() *discoveryv3.DeltaDiscoveryResponse {
	st.state.mu.Lock()
	defer st.state.mu.Unlock()
	if s := st.subscriptions[st.resources.clusters.typeURL]; s != nil {
		if response := s.removals(); response != nil {
			return response
		}
	}
	for _, t := range st.resources.tables() {
		if s := st.subscriptions[t.typeURL]; s != nil {
			if response := s.next(); response != nil {
				return response
			}
		}
	}
	return nil
}

func (st *stream) end() {
	st.state.mu.Lock()
	defer st.state.mu.Unlock()
	for _, s := range st.subscriptions {
		s.end()
	}
}
