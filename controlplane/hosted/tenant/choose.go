// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// choices are made one at a time, so that two tenants don't both get the last
// place. made holds those that the cache may not show yet.
type choices struct {
	mu   sync.Mutex
	made map[types.NamespacedName]string
}

// choose picks a DataStore out of those that spec.dataStoreSelector selects, and
// writes it to spec.dataStore, once: there it survives a lost status and a move
// into another cluster, and a change of labels moves nobody.
func (r *Reconciler) choose(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) error {
	if tenant.Spec.DataStore != "" || tenant.Spec.DataStoreSelector == nil || !tenant.DeletionTimestamp.IsZero() {
		return nil
	}
	r.choices.mu.Lock()
	defer r.choices.mu.Unlock()
	name := tenant.Status.Storage.DataStoreName
	if name == "" {
		var err error
		if name, err = r.pick(ctx, tenant.Spec.DataStoreSelector); err != nil {
			return err
		}
	}
	after := tenant.DeepCopy()
	after.Spec.DataStore = name
	// A cached copy that is too old conflicts here, and the pass is repeated.
	err := r.Client.Patch(ctx, after, client.MergeFromWithOptions(tenant.DeepCopy(), client.MergeFromWithOptimisticLock{}))
	if err != nil {
		return fmt.Errorf("writing spec.dataStore of TenantControlPlane %s: %w", client.ObjectKeyFromObject(tenant), err)
	}
	if r.choices.made == nil {
		r.choices.made = map[types.NamespacedName]string{}
	}
	r.choices.made[client.ObjectKeyFromObject(tenant)] = name
	tenant.Spec.DataStore, tenant.ResourceVersion, tenant.Generation = name, after.ResourceVersion, after.Generation
	return nil
}

func (r *Reconciler) pick(ctx context.Context, wanted *metav1.LabelSelector) (string, error) {
	selector, err := metav1.LabelSelectorAsSelector(wanted)
	if err != nil {
		return "", phase.Fatal(kamajiv1alpha1.InvalidSpecReason, "spec.dataStoreSelector: %v", err)
	}
	var stores kamajiv1alpha1.DataStoreList
	if err := r.Client.List(ctx, &stores, client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return "", fmt.Errorf("listing DataStores: %w", err)
	}
	candidates := make([]storage.Candidate, 0, len(stores.Items))
	for i := range stores.Items {
		store := &stores.Items[i]
		users, err := r.users(ctx, store.Name)
		if err != nil {
			return "", err
		}
		c := storage.Candidate{Name: store.Name, Tenants: len(users) + r.choices.unseen(store.Name, users)}
		switch limit := store.Spec.MaxTenants; {
		case !store.DeletionTimestamp.IsZero():
			c.Usable = "is being deleted"
		case !store.Status.Ready:
			c.Usable = "is not ready: " + whyNotReady(store)
		case limit != nil && *limit == 0:
			c.Usable = "takes no tenants (spec.maxTenants is 0)"
		case limit != nil:
			c.Max = int(*limit)
		}
		candidates = append(candidates, c)
	}
	if len(candidates) == 0 {
		return "", phase.WaitFor(foreignRetry, kamajiv1alpha1.DataStoreMissingReason,
			"spec.dataStoreSelector selects no DataStore: label one with %s", metav1.FormatLabelSelector(wanted))
	}
	name, why := storage.Pick(candidates)
	if name == "" {
		return "", phase.WaitFor(foreignRetry, kamajiv1alpha1.NoDataStoreFitsReason,
			"no DataStore that spec.dataStoreSelector selects takes another tenant: %s", why)
	}
	return name, nil
}

// unseen counts what was given to tenants that are not among the users, and
// forgets those that are.
func (c *choices) unseen(store string, users []kamajiv1alpha1.TenantControlPlane) int {
	for i := range users {
		delete(c.made, client.ObjectKeyFromObject(&users[i]))
	}
	n := 0
	for _, name := range c.made {
		if name == store {
			n++
		}
	}
	return n
}

// forget drops what was picked for a tenant that is gone.
func (c *choices) forget(tenant types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.made, tenant)
}

// users are the tenants that use a DataStore, out of the cache's index.
func (r *Reconciler) users(ctx context.Context, name string) ([]kamajiv1alpha1.TenantControlPlane, error) {
	var list kamajiv1alpha1.TenantControlPlaneList
	if err := r.Client.List(ctx, &list, client.MatchingFields{storage.UsersIndex: name}); err != nil {
		return nil, fmt.Errorf("listing the users of DataStore %s: %w", name, err)
	}
	return list.Items, nil
}

// room fails when a tenant that has nothing in the DataStore yet is one too many.
// Those that may have something are in; of the others the older ones come first.
// Whether a tenant is in shows by its finalizer, which a lost status doesn't change.
func (r *Reconciler) room(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane, store *kamajiv1alpha1.DataStore) error {
	in := func(t *kamajiv1alpha1.TenantControlPlane) bool {
		return controllerutil.ContainsFinalizer(t, kamajiv1alpha1.DataStoreCleanupFinalizer)
	}
	if store.Spec.MaxTenants == nil || in(tenant) {
		return nil
	}
	users, err := r.users(ctx, store.Name)
	if err != nil {
		return err
	}
	ahead := int32(0)
	for i := range users {
		other := &users[i]
		older := other.CreationTimestamp.Before(&tenant.CreationTimestamp) ||
			other.CreationTimestamp.Equal(&tenant.CreationTimestamp) && other.UID < tenant.UID
		if other.UID != tenant.UID && (in(other) || older) {
			ahead++
		}
	}
	if ahead < *store.Spec.MaxTenants {
		return nil
	}
	return phase.WaitFor(foreignRetry, kamajiv1alpha1.DataStoreFullReason,
		"DataStore %s takes %d tenants and has them: raise its spec.maxTenants, or name another in spec.dataStore", store.Name, *store.Spec.MaxTenants)
}
