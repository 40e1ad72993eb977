// SPDX-License-Identifier: Apache-2.0

package datastore

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

const (
	// secretsIndex finds the DataStores that refer to a Secret.
	secretsIndex = "secretRef"
	// usersDelay collects tenants' events: a hundred tenants created at once
	// cost the store one status write, not a hundred.
	usersDelay = 2 * time.Second
	// defaultConcurrency of the controller.
	defaultConcurrency = 4
)

// SetupWithManager registers the controller. fallback is the DataStore of
// tenants that name none, and may be empty.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager, fallback string) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &kamajiv1alpha1.DataStore{}, secretsIndex, func(obj client.Object) []string {
		store, ok := obj.(*kamajiv1alpha1.DataStore)
		if !ok {
			return nil
		}
		var keys []string
		for _, name := range storage.SecretsOf(store) {
			keys = append(keys, name.String())
		}
		return keys
	})
	if err != nil {
		return err
	}
	concurrency := r.Concurrency
	if concurrency == 0 {
		concurrency = defaultConcurrency
	}
	specOrAnnotations := predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{})
	return ctrl.NewControllerManagedBy(mgr).
		Named("datastore").
		For(&kamajiv1alpha1.DataStore{}, builder.WithPredicates(specOrAnnotations)).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.storesOfSecret)).
		Watches(&kamajiv1alpha1.TenantControlPlane{}, usersHandler(fallback)).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrency}).
		Complete(r)
}

func (r *Reconciler) storesOfSecret(ctx context.Context, secret client.Object) []reconcile.Request {
	var stores kamajiv1alpha1.DataStoreList
	if err := r.Client.List(ctx, &stores, client.MatchingFields{secretsIndex: client.ObjectKeyFromObject(secret).String()}); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "listing the DataStores of a Secret", "secret", client.ObjectKeyFromObject(secret))
		return nil
	}
	requests := make([]reconcile.Request, 0, len(stores.Items))
	for _, store := range stores.Items {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: store.Name}})
	}
	return requests
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// usersHandler queues the stores whose list of users an event changes, or of
// which a user fails, after a delay. A deletion is delayed less, because somebody may be waiting for the
// store to go.
func usersHandler(fallback string) handler.EventHandler {
	names := func(obj client.Object) []string {
		tenant, ok := obj.(*kamajiv1alpha1.TenantControlPlane)
		if !ok {
			return nil
		}
		return storage.UsedBy(tenant, fallback)
	}
	enqueue := func(q queue, delay time.Duration, names []string) {
		for _, name := range names {
			q.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}, delay)
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { enqueue(q, usersDelay, names(e.Object)) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			before, after := names(e.ObjectOld), names(e.ObjectNew)
			if !slices.Equal(before, after) {
				enqueue(q, usersDelay, append(before, after...))
			} else if failed(e.ObjectOld, e.ObjectNew) {
				enqueue(q, usersDelay, after)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { enqueue(q, usersDelay/10, names(e.Object)) },
	}
}

// failed tells whether the pods of a tenant that served have stopped to. Often
// that is the first sign of a store that is gone, which is worth a look before
// the next is due.
func failed(before, after client.Object) bool {
	was, ok := before.(*kamajiv1alpha1.TenantControlPlane)
	is, also := after.(*kamajiv1alpha1.TenantControlPlane)
	return ok && also && meta.IsStatusConditionTrue(was.Status.Conditions, kamajiv1alpha1.WorkloadReadyCondition) &&
		meta.IsStatusConditionFalse(is.Status.Conditions, kamajiv1alpha1.WorkloadReadyCondition)
}
