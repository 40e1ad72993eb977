// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds"
)

// State holds the resources of all gateways. A change of one tenant touches the resources of that tenant only.
// It is safe for concurrent use.
type State struct {
	mu       sync.Mutex
	gateways map[string]*resources
	tenants  map[tenantKey]tenant
}

type tenantKey struct{ namespace, name string }

// tenant is what was last set for one.
type tenant struct {
	gateway  string
	routes   map[string]route.Route
	backends route.Backends
}

// resources of one gateway, a cache per type, so that a change is announced for its type only.
type resources struct {
	// gateway is what the listeners were made from; its name is empty while only tenants know the gateway.
	gateway                        route.Gateway
	listeners, clusters, endpoints *cachev3.LinearCache
	access                         *access
	mux                            *cachev3.MuxCache
	// claims lists by cluster name who wants it; the first one has it. There is more than one only when
	// the statuses of two tenants contradict each other; then the earlier one keeps its connections.
	claims map[string][]tenantKey
}

// NewState returns a State without gateways.
func NewState() *State {
	return &State{gateways: map[string]*resources{}, tenants: map[tenantKey]tenant{}}
}

func newResources() *resources {
	r := &resources{
		listeners: cachev3.NewLinearCache(resourcev3.ListenerType),
		clusters:  cachev3.NewLinearCache(resourcev3.ClusterType),
		endpoints: cachev3.NewLinearCache(resourcev3.EndpointType),
		access:    newAccess(),
		claims:    map[string][]tenantKey{},
	}
	r.mux = &cachev3.MuxCache{
		Classify:      func(req *cachev3.Request) string { return req.GetTypeUrl() },
		ClassifyDelta: func(req *cachev3.DeltaRequest) string { return req.GetTypeUrl() },
		Caches: map[string]cachev3.Cache{
			resourcev3.ListenerType: r.listeners, resourcev3.ClusterType: r.clusters, resourcev3.EndpointType: r.endpoints,
			resourcev3.ExtensionConfigType: r.access.cache,
		},
	}
	return r
}

// named returns the resources of a gateway, made when they are first needed. s.mu must be held.
func (s *State) named(gateway string) *resources {
	r := s.gateways[gateway]
	if r == nil {
		r = newResources()
		s.gateways[gateway] = r
	}
	return r
}

// SetGateway serves the listeners of g. An unchanged gateway sends nothing.
func (s *State) SetGateway(g route.Gateway) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.named(g.Name)
	if r.gateway == g {
		return nil
	}
	listeners, err := xds.Listeners(g)
	if err != nil {
		return fmt.Errorf("making listeners of gateway %s: %w", g.Name, err)
	}
	update := map[string]types.Resource{}
	for _, l := range listeners {
		update[l.GetName()] = l
	}
	if err := r.listeners.UpdateResources(update, nil); err != nil {
		return fmt.Errorf("serving listeners of gateway %s: %w", g.Name, err)
	}
	r.gateway = g
	return nil
}

// RemoveGateway takes the listeners away from data planes that are still connected and refuses new ones.
// The routes of tenants stay for the case that the gateway comes back.
func (s *State) RemoveGateway(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.gateways[name]
	if r == nil || r.gateway.Name == "" {
		return nil
	}
	r.gateway = route.Gateway{}
	if err := r.listeners.UpdateResources(nil, []string{string(route.Public), string(route.Private), string(route.Prefix)}); err != nil {
		return fmt.Errorf("removing listeners of gateway %s: %w", name, err)
	}
	return nil
}

// Known tells whether a gateway of that name exists.
func (s *State) Known(gateway string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.gateways[gateway]
	return r != nil && r.gateway.Name != ""
}

// SetTenant serves the routes and endpoints of t on its gateway, and takes it off the gateway it had before. Only differences are
// sent. It returns the names of clusters that another tenant has, which are not served for t.
func (s *State) SetTenant(t route.Tenant, backends route.Backends) (refused []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := tenantKey{t.Namespace, t.Name}
	old := s.tenants[key]
	if old.gateway != "" && old.gateway != t.Gateway {
		if err := s.remove(key); err != nil {
			return nil, err
		}
		old = tenant{}
	}
	next := tenant{gateway: t.Gateway, routes: map[string]route.Route{}, backends: maps.Clone(backends)}
	for _, r := range route.Routes(t) {
		next.routes[r.Key.String()] = r
	}
	r := s.named(t.Gateway)
	// Endpoints before the clusters that name them, so that no data plane waits for them.
	if err := r.setEndpoints(key, old, next); err != nil {
		return nil, fmt.Errorf("serving endpoints of %s/%s: %w", t.Namespace, t.Name, err)
	}
	s.tenants[key] = next
	if refused, err = s.setClusters(r, key, old.routes, next.routes); err != nil {
		return refused, fmt.Errorf("serving routes of %s/%s: %w", t.Namespace, t.Name, err)
	}
	return refused, nil
}

// RemoveTenant removes all of a tenant. One that isn't there is no error.
func (s *State) RemoveTenant(namespace, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.remove(tenantKey{namespace, name}); err != nil {
		return fmt.Errorf("removing routes of %s/%s: %w", namespace, name, err)
	}
	return nil
}

func (s *State) remove(key tenantKey) error {
	old, ok := s.tenants[key]
	if !ok {
		return nil
	}
	delete(s.tenants, key)
	r := s.named(old.gateway)
	if _, err := s.setClusters(r, key, old.routes, nil); err != nil {
		return err
	}
	return r.endpoints.UpdateResources(nil, backendNames(key))
}

func (r *resources) setEndpoints(key tenantKey, old, next tenant) error {
	update := map[string]types.Resource{}
	for _, port := range ports {
		if old.gateway == "" || !slices.Equal(old.backends[port], next.backends[port]) {
			name := route.BackendName(key.namespace, key.name, port)
			update[name] = xds.Assignment(name, next.backends[port])
		}
	}
	if len(update) == 0 {
		return nil
	}
	return r.endpoints.UpdateResources(update, nil)
}

// setClusters brings the clusters of one tenant from old to next, respecting and passing on claims.
func (s *State) setClusters(r *resources, key tenantKey, old, next map[string]route.Route) (refused []string, err error) {
	changed, gone := map[string]route.Route{}, []string(nil)
	for name, was := range old {
		if is, ok := next[name]; ok && is.Equal(was) {
			continue
		}
		claims := r.claims[name]
		held := len(claims) > 0 && claims[0] == key
		claims = slices.DeleteFunc(claims, func(k tenantKey) bool { return k == key })
		r.claims[name] = claims
		switch {
		case len(claims) == 0:
			delete(r.claims, name)
			gone = append(gone, name)
		case held:
			changed[name] = s.tenants[claims[0]].routes[name]
		}
	}
	for name, is := range next {
		claims := r.claims[name]
		if !slices.Contains(claims, key) {
			claims = append(claims, key)
			r.claims[name] = claims
			if claims[0] == key {
				changed[name] = is
			}
		}
		if claims[0] != key {
			refused = append(refused, name)
		}
	}
	gone = slices.DeleteFunc(gone, func(name string) bool { _, stays := changed[name]; return stays })
	slices.Sort(refused)
	return refused, r.publish(changed, gone)
}

// ports are the groups of endpoints that every tenant has.
var ports = []string{route.PortAPIServer, route.PortKonnectivity}

func backendNames(key tenantKey) []string {
	var names []string
	for _, port := range ports {
		names = append(names, route.BackendName(key.namespace, key.name, port))
	}
	return names
}
