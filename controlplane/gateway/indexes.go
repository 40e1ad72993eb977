// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
)

// Indexes of the cache, so that no reconcile looks at all tenants.
const (
	// hostIndex: tenants by the host names they ask for or have (see hostKeys).
	hostIndex = "gateway.host"
	// gatewayIndex: tenants by the gateway they ask for.
	gatewayIndex = "gateway.name"
	// leaseTenantIndex: leases by gateway and tenant (see leaseTenantKey).
	leaseTenantIndex = "gateway.lease.tenant"
	// tenantIndex: leases by tenant, namespace/name, on whatever gateway.
	tenantIndex = "gateway.tenant"
)

func leaseTenantKey(gateway string, tenant types.NamespacedName) string {
	return gateway + "/" + tenant.String()
}

func leaseHolder(l *v1alpha2.GatewayPortLease) types.NamespacedName {
	return types.NamespacedName{Namespace: l.Spec.Tenant.Namespace, Name: l.Spec.Tenant.Name}
}

// indexes by field name; each function gets objects of the type it is registered for.
var indexes = []struct {
	object client.Object
	field  string
	keys   client.IndexerFunc
}{
	{&kamajiv1alpha1.TenantControlPlane{}, hostIndex, func(o client.Object) []string {
		return hostKeys(o.(*kamajiv1alpha1.TenantControlPlane))
	}},
	{&kamajiv1alpha1.TenantControlPlane{}, gatewayIndex, func(o client.Object) []string {
		if spec := o.(*kamajiv1alpha1.TenantControlPlane).Spec.ControlPlane.KamajiGateway; spec != nil {
			return []string{spec.Name}
		}
		return nil
	}},
	{&v1alpha2.GatewayPortLease{}, leaseTenantIndex, func(o client.Object) []string {
		lease := o.(*v1alpha2.GatewayPortLease)
		return []string{leaseTenantKey(lease.Spec.Gateway, leaseHolder(lease))}
	}},
	{&v1alpha2.GatewayPortLease{}, tenantIndex, func(o client.Object) []string {
		return []string{leaseHolder(o.(*v1alpha2.GatewayPortLease)).String()}
	}},
}

func addIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	for _, index := range indexes {
		if err := indexer.IndexField(ctx, index.object, index.field, index.keys); err != nil {
			return fmt.Errorf("indexing %T by %s: %w", index.object, index.field, err)
		}
	}
	return nil
}
