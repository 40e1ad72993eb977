// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"net/netip"
	"slices"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds"
)

// access are the lists of who may connect. Only Envoy reads them, and encoding one costs as much as there are restricted tenants; so
// nothing is encoded before a data plane asks.
type access struct {
	table   *table
	sources map[xds.AccessList]map[string][]netip.Prefix
	// changed are the lists that differ from what is served.
	changed map[xds.AccessList]bool
	asked   bool
}

func newAccess() *access {
	a := &access{
		table: newTable(resourcev3.ExtensionConfigType), sources: map[xds.AccessList]map[string][]netip.Prefix{}, changed: map[xds.AccessList]bool{},
	}
	for _, list := range xds.AccessLists() {
		a.sources[list] = map[string][]netip.Prefix{}
		a.changed[list] = true
	}
	return a
}

// ask serves the lists from now on.
func (a *access) ask() error {
	a.asked = true
	return a.serve()
}

// put notes who may connect by a route, and remove forgets it. The API server's route stands for konnectivity's, which it shares the entry with.
func (a *access) put(r route.Route) {
	list, entry := xds.AccessListOf(r.Key)
	if r.Key.Konnectivity || slices.Equal(a.sources[list][entry], r.Policy.Sources) {
		return
	}
	if a.changed[list] = true; len(r.Policy.Sources) == 0 {
		delete(a.sources[list], entry)
	} else {
		a.sources[list][entry] = r.Policy.Sources
	}
}

func (a *access) remove(key route.Key) {
	list, entry := xds.AccessListOf(key)
	if _, ok := a.sources[list][entry]; ok && !key.Konnectivity {
		delete(a.sources[list], entry)
		a.changed[list] = true
	}
}

// serve serves the lists as they are now, once a data plane has asked.
func (a *access) serve() error {
	if !a.asked {
		return nil
	}
	for list := range a.changed {
		config, err := xds.Access(list, a.sources[list])
		if err != nil {
			return fmt.Errorf("making the access list %s: %w", list, err)
		}
		if err := a.table.put(string(list), config); err != nil {
			return err
		}
		delete(a.changed, list)
	}
	return nil
}
