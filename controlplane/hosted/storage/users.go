// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// UsersIndex is the field index of TenantControlPlanes by the DataStores that
// UsedBy returns for them.
const UsersIndex = "kamaji.clastix.io/datastores"

// NameFor is the DataStore that a tenant keeps its state in: the one it names,
// else the one it has used so far, else fallback. It is empty for one that is still
// to be picked by the tenant's selector.
func NameFor(tenant *kamajiv1alpha1.TenantControlPlane, fallback string) string {
	switch {
	case tenant.Spec.DataStore != "":
		return tenant.Spec.DataStore
	case tenant.Status.Storage.DataStoreName != "":
		return tenant.Status.Storage.DataStoreName
	case tenant.Spec.DataStoreSelector != nil:
		return ""
	default:
		return fallback
	}
}

// UsedBy lists the DataStores that a tenant needs or still has data in, sorted:
// the wanted one, the current one, and those of single resources.
func UsedBy(tenant *kamajiv1alpha1.TenantControlPlane, fallback string) []string {
	names := []string{NameFor(tenant, fallback), tenant.Status.Storage.DataStoreName}
	for _, override := range tenant.Spec.DataStoreOverrides {
		names = append(names, override.DataStore)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// IndexUsers adds UsersIndex to a cache. It must be called once for a manager,
// before it starts.
func IndexUsers(ctx context.Context, indexer client.FieldIndexer, fallback string) error {
	return indexer.IndexField(ctx, &kamajiv1alpha1.TenantControlPlane{}, UsersIndex, func(obj client.Object) []string {
		tenant, ok := obj.(*kamajiv1alpha1.TenantControlPlane)
		if !ok {
			return nil
		}
		return UsedBy(tenant, fallback)
	})
}
