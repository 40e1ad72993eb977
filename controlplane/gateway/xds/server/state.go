// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds"
)

// State holds the resources of all gateways. A change of one tenant touches the resources of that tenant only.
// It is safe for concurrent use.
type State struct {
	mu       sync.Mutex
	gateways map[string]*resources
	tenants  map[tenantKey]*tenant
	// activator are the endpoints that answer for sleeping tenants.
	activator []route.Endpoint
}

type tenantKey struct{ namespace, name string }

// tenant is what was last set for one.
type tenant struct {
	// Tenant is as its gateway serves it: with the gateway's policies where it has none of its own, and without a port that is closed.
	route.Tenant
	// public and private are its own policies, port the port that is leased to it.
	public, private route.Policy
	port            uint16
	backends        route.Backends
}

// resources of one gateway.
type resources struct {
	// gateway is what the listeners were made from; its name is empty while only tenants know the gateway.
	gateway                        route.Gateway
	listeners, clusters, endpoints *table
	access                         *access
	// holders has by cluster name who has it. waiting lists further ones who want it, first come first served: there are some only
	// when the statuses of two tenants contradict each other; then the earlier one keeps its connections.
	holders map[string]*tenant
	waiting map[string][]*tenant
}

// NewState returns a State without gateways.
func NewState() *State {
	return &State{gateways: map[string]*resources{}, tenants: map[tenantKey]*tenant{}}
}

func newResources() *resources {
	return &resources{
		listeners: newTable(resourcev3.ListenerType), clusters: newTable(resourcev3.ClusterType), endpoints: newTable(resourcev3.EndpointType),
		access: newAccess(), holders: map[string]*tenant{}, waiting: map[string][]*tenant{},
	}
}

// tables in the order in which a data plane gets what is new.
func (r *resources) tables() []*table {
	return []*table{r.endpoints, r.access.table, r.clusters, r.listeners}
}

func (r *resources) table(typeURL string) *table {
	for _, t := range r.tables() {
		if t.typeURL == typeURL {
			return t
		}
	}
	return nil
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

// SetGateway serves the listeners of g, and its tenants as it wants them: policies of tenants without their own, and which ports are
// closed. An unchanged gateway sends nothing.
func (s *State) SetGateway(g route.Gateway) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.named(g.Name)
	old := r.gateway
	if !old.SameListeners(g) {
		if err := r.listen(g); err != nil {
			return err
		}
	}
	r.gateway = g
	if old.Public.Equal(g.Public) && old.Private.Equal(g.Private) && old.AddressesOnly == g.AddressesOnly {
		return nil
	}
	// A change of the gateway for all its tenants is the only one that looks at all tenants.
	for _, t := range s.tenants {
		if t.Gateway != g.Name {
			continue
		}
		if _, err := s.apply(r, t, t.on(g)); err != nil {
			return fmt.Errorf("serving routes of %s/%s: %w", t.Namespace, t.Name, err)
		}
	}
	return nil
}

func (r *resources) listen(g route.Gateway) error {
	listeners, err := xds.Listeners(g)
	if err != nil {
		return fmt.Errorf("making listeners of gateway %s: %w", g.Name, err)
	}
	gone := maps.Clone(r.listeners.resources)
	for _, l := range listeners {
		if err := r.listeners.put(l.GetName(), l); err != nil {
			return fmt.Errorf("serving listeners of gateway %s: %w", g.Name, err)
		}
		delete(gone, l.GetName())
	}
	for name := range gone {
		r.listeners.remove(name)
	}
	return nil
}

// RemoveGateway takes the listeners away from data planes that are still connected and refuses new ones.
// The routes of tenants stay for the case that the gateway comes back.
func (s *State) RemoveGateway(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.gateways[name]
	if r == nil {
		return
	}
	r.gateway = route.Gateway{}
	for _, name := range slices.Collect(maps.Keys(r.listeners.resources)) {
		r.listeners.remove(name)
	}
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
	if old := s.tenants[key]; old != nil && old.Gateway != t.Gateway {
		if err := s.remove(key); err != nil {
			return nil, fmt.Errorf("removing routes of %s/%s from gateway %s: %w", t.Namespace, t.Name, old.Gateway, err)
		}
	}
	r := s.named(t.Gateway)
	is := s.tenants[key]
	if is == nil {
		is = &tenant{Tenant: route.Tenant{Namespace: t.Namespace, Name: t.Name, Gateway: t.Gateway}}
		s.tenants[key] = is
	}
	next := tenant{Tenant: t, public: t.Public, private: t.Private, port: t.Port, backends: maps.Clone(backends)}
	// Endpoints before the clusters that name them, so that no data plane waits for them. A group that no cluster names any more stays
	// until the tenant goes: a data plane would hear of its end before it hears of the clusters.
	if err := s.lead(r, is, next); err != nil {
		return nil, fmt.Errorf("serving endpoints of %s/%s: %w", t.Namespace, t.Name, err)
	}
	if refused, err = s.apply(r, is, next.on(r.gateway)); err != nil {
		return refused, fmt.Errorf("serving routes of %s/%s: %w", t.Namespace, t.Name, err)
	}
	return refused, nil
}

// lead serves the endpoints of next, as far as they differ from those of is.
func (s *State) lead(r *resources, is *tenant, next tenant) error {
	for _, group := range next.Groups() {
		name, endpoints := route.BackendName(next.Namespace, next.Name, group), next.backends.Group(group, s.activator)
		known := r.endpoints.resources[name] != nil && slices.Contains(is.Groups(), group)
		if known && slices.Equal(is.backends.Group(group, s.activator), endpoints) {
			continue
		}
		if err := r.endpoints.put(name, xds.Assignment(name, endpoints)); err != nil {
			return err
		}
	}
	return nil
}

// SetActivator changes where connections to sleeping tenants lead. Managers are replaced rarely, so it may look at all tenants; it
// sends those that sleep and can be woken.
func (s *State) SetActivator(endpoints []route.Endpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	endpoints = route.SortEndpoints(slices.Clone(endpoints))
	if slices.Equal(s.activator, endpoints) {
		return nil
	}
	s.activator = endpoints
	for _, t := range s.tenants {
		if !t.Wake {
			continue
		}
		name := route.BackendName(t.Namespace, t.Name, route.Awaited)
		if err := s.named(t.Gateway).endpoints.put(name, xds.Assignment(name, t.backends.Group(route.Awaited, endpoints))); err != nil {
			return fmt.Errorf("leading clients of %s/%s to the activator: %w", t.Namespace, t.Name, err)
		}
	}
	return nil
}

// on is t as g serves it.
func (t *tenant) on(g route.Gateway) tenant {
	next := *t
	next.Public, next.Private, next.Port = t.public.Or(g.Public), t.private.Or(g.Private), t.port
	if g.AddressesOnly && t.Address.IsValid() {
		next.Port = 0
	}
	return next
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
	t := s.tenants[key]
	if t == nil {
		return nil
	}
	delete(s.tenants, key)
	r := s.named(t.Gateway)
	for _, gone := range t.routes() {
		if err := r.release(gone.Key, t); err != nil {
			return err
		}
	}
	if err := r.access.serve(); err != nil {
		return err
	}
	for _, group := range route.Groups() {
		r.endpoints.remove(route.BackendName(key.namespace, key.name, group))
	}
	return nil
}

// routes of a tenant; one that was just made has none.
func (t *tenant) routes() []route.Route {
	if t.Hostname == "" {
		return nil
	}
	return route.Routes(t.Tenant)
}

// apply turns t into next, with the same names. It returns the names of clusters that others have.
func (s *State) apply(r *resources, t *tenant, next tenant) (refused []string, err error) {
	old, wanted := t.routes(), next.routes()
	*t = next
	for _, o := range old {
		if !slices.ContainsFunc(wanted, func(w route.Route) bool { return w.Key == o.Key }) {
			if err := r.release(o.Key, t); err != nil {
				return nil, err
			}
		}
	}
	for _, w := range wanted {
		name := w.Key.String()
		holder := r.holders[name]
		switch {
		case holder == nil:
			r.holders[name] = t
		case holder != t:
			if !slices.Contains(r.waiting[name], t) {
				r.waiting[name] = append(r.waiting[name], t)
			}
			refused = append(refused, name)
			continue
		case slices.ContainsFunc(old, w.Equal):
			continue
		}
		if err := r.publish(w); err != nil {
			return refused, err
		}
	}
	return refused, r.access.serve()
}

// publish serves a route.
func (r *resources) publish(is route.Route) error {
	r.access.put(is)
	return r.clusters.put(is.Key.String(), xds.Cluster(is))
}

// release takes t off a cluster, which goes to the next one who waits for it, or away.
func (r *resources) release(key route.Key, t *tenant) error {
	name := key.String()
	waiting := slices.DeleteFunc(r.waiting[name], func(w *tenant) bool { return w == t })
	if r.holders[name] == t {
		delete(r.holders, name)
		if len(waiting) > 0 {
			r.holders[name], waiting = waiting[0], waiting[1:]
		}
	}
	if r.waiting[name] = waiting; len(waiting) == 0 {
		delete(r.waiting, name)
	}
	holder := r.holders[name]
	if holder == nil {
		r.clusters.remove(name)
		r.access.remove(key)
		return nil
	}
	for _, is := range holder.routes() {
		if is.Key == key {
			return r.publish(is)
		}
	}
	return nil
}
