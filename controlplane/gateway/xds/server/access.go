// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds"
)

// access are the lists of who may connect. Only Envoy reads them, and encoding one costs as much as there are restricted tenants; so
// nothing is encoded before a data plane asks.
type access struct {
	cache   *cachev3.LinearCache
	sources map[xds.AccessList]map[string][]netip.Prefix
	asked   bool
}

func newAccess() *access {
	a := &access{cache: cachev3.NewLinearCache(resourcev3.ExtensionConfigType), sources: map[xds.AccessList]map[string][]netip.Prefix{}}
	for _, list := range xds.AccessLists() {
		a.sources[list] = map[string][]netip.Prefix{}
	}
	return a
}

// ask serves the lists from now on.
func (a *access) ask() error {
	if a.asked {
		return nil
	}
	a.asked = true
	return a.serve(xds.AccessLists())
}

// put notes who may connect by routes, and remove forgets it. The API server's route stands for konnectivity's, which it shares the entry with.
func (a *access) put(routes map[string]route.Route) error {
	changed := map[xds.AccessList]bool{}
	for _, r := range routes {
		list, entry := xds.AccessListOf(r.Key)
		if r.Key.Konnectivity || slices.Equal(a.sources[list][entry], r.Policy.Sources) {
			continue
		}
		if changed[list] = true; len(r.Policy.Sources) == 0 {
			delete(a.sources[list], entry)
		} else {
			a.sources[list][entry] = r.Policy.Sources
		}
	}
	return a.serve(slices.Sorted(maps.Keys(changed)))
}

func (a *access) remove(names []string) error {
	changed := map[xds.AccessList]bool{}
	for _, name := range names {
		key, err := route.ParseKey(name)
		if err != nil {
			return err
		}
		list, entry := xds.AccessListOf(key)
		if _, ok := a.sources[list][entry]; ok && !key.Konnectivity {
			delete(a.sources[list], entry)
			changed[list] = true
		}
	}
	return a.serve(slices.Sorted(maps.Keys(changed)))
}

func (a *access) serve(lists []xds.AccessList) error {
	if !a.asked || len(lists) == 0 {
		return nil
	}
	update := map[string]types.Resource{}
	for _, list := range lists {
		config, err := xds.Access(list, a.sources[list])
		if err != nil {
			return fmt.Errorf("making the access list %s: %w", list, err)
		}
		update[string(list)] = config
	}
	return a.cache.UpdateResources(update, nil)
}

// asked returns the resources of a gateway whose data plane wants those of a type, or nil when there is no such gateway.
func (s *State) asked(gateway, typeURL string) (*resources, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.gateways[gateway]
	if r == nil || typeURL != resourcev3.ExtensionConfigType {
		return r, nil
	}
	return r, r.access.ask()
}

// publish serves changed routes and takes others away. Who may connect comes before the route and stays until after it.
func (r *resources) publish(changed map[string]route.Route, gone []string) error {
	if len(changed)+len(gone) == 0 {
		return nil
	}
	if err := r.access.put(changed); err != nil {
		return err
	}
	update := make(map[string]types.Resource, len(changed))
	for name, is := range changed {
		update[name] = xds.Cluster(is)
	}
	if err := r.clusters.UpdateResources(update, gone); err != nil {
		return err
	}
	return r.access.remove(gone)
}
