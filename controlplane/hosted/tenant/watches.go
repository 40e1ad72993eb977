// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	"sigs.k8s.io/controller-runtime/pkg/source"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// requestQueue is where event handlers put the tenants to look at.
type requestQueue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// defaultConcurrency suits a manager with one or two cores: a pass uses the
// processor for a few milliseconds and otherwise waits for API servers.
const defaultConcurrency = 10

// SetupWithManager registers the controller. The manager's cache must have
// storage.UsersIndex.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	concurrency := r.Concurrency
	if concurrency == 0 {
		concurrency = defaultConcurrency
	}
	err := mgr.GetFieldIndexer().IndexField(ctx, &kamajiv1alpha1.TenantControlPlane{}, sourcesIndex, func(o client.Object) []string {
		tenant, ok := o.(*kamajiv1alpha1.TenantControlPlane)
		if !ok {
			return nil
		}
		return sourcesOf(tenant)
	})
	if err != nil {
		return fmt.Errorf("indexing the sources of certificates: %w", err)
	}
	controlled := ctrl.NewControllerManagedBy(mgr).
		Named("tenantcontrolplane").
		For(&kamajiv1alpha1.TenantControlPlane{}, builder.WithPredicates(tenantChanged())).
		Owns(&appsv1.Deployment{}, builder.WithPredicates(written())).
		Owns(&corev1.Service{}, builder.WithPredicates(notCreated())).
		Owns(&networkingv1.Ingress{}, builder.WithPredicates(notCreated())).
		Owns(&corev1.Secret{}, builder.WithPredicates(notCreated())).
		Owns(&corev1.ConfigMap{}, builder.WithPredicates(notCreated())).
		Owns(&policyv1.PodDisruptionBudget{}, builder.WithPredicates(predicate.And(notCreated(), predicate.GenerationChangedPredicate{}))).
		Owns(&networkingv1.NetworkPolicy{}, builder.WithPredicates(notCreated())).
		WatchesMetadata(pod(), r.podEvents(), builder.WithPredicates(podStopped())).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.tenantsOfSource), builder.WithPredicates(predicate.NewPredicateFuncs(ownerless))).
		Watches(&kamajiv1alpha1.DataStore{}, handler.EnqueueRequestsFromMapFunc(r.tenantsOfStore), builder.WithPredicates(storeChanged())).
		Watches(&kamajiv1alpha1.DataStore{}, r.failedStore()).
		WatchesRawSource(source.Channel(r.turns(), &handler.EnqueueRequestForObject{})).
		WatchesRawSource(source.Channel(r.jobEvents(), &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrency})
	if r.Policies != nil && r.Policies.Nodes {
		controlled.Watches(&corev1.Node{}, r.allTenants(), builder.WithPredicates(networksChanged()))
	}
	c, err := controlled.Build(r)
	if err != nil {
		return err
	}
	return r.watchRoutes(ctx, mgr, c)
}

// turns brings a tenant back when it may start its pods.
func (r *Reconciler) turns() <-chan event.GenericEvent {
	events := make(chan event.GenericEvent, 64)
	r.queue.limit = r.Starts
	r.queue.wake = func(name types.NamespacedName) {
		next := &kamajiv1alpha1.TenantControlPlane{}
		next.Namespace, next.Name = name.Namespace, name.Name
		events <- event.GenericEvent{Object: next}
	}
	return events
}

// jobEvents brings a tenant back when a job of its migration has ended.
func (r *Reconciler) jobEvents() <-chan event.GenericEvent {
	events := make(chan event.GenericEvent, 1)
	r.jobs.Wake = func(name types.NamespacedName) {
		ended := &kamajiv1alpha1.TenantControlPlane{}
		ended.Namespace, ended.Name = name.Namespace, name.Name
		select {
		case events <- event.GenericEvent{Object: ended}:
		default:
			// Progress is polled, too.
		}
	}
	return events
}

// tenantChanged leaves out the status patches of this controller, but not those
// of the gateway, and not a status that somebody has wiped.
func tenantChanged() predicate.Predicate {
	return predicate.Or(
		predicate.GenerationChangedPredicate{},
		predicate.AnnotationChangedPredicate{},
		predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*kamajiv1alpha1.TenantControlPlane)
			after, alsoOK := e.ObjectNew.(*kamajiv1alpha1.TenantControlPlane)
			if !ok || !alsoOK {
				return false
			}
			wiped := len(after.Status.Conditions) == 0 && len(before.Status.Conditions) > 0
			return wiped || !before.DeletionTimestamp.Equal(after.DeletionTimestamp) ||
				!reflect.DeepEqual(before.Status.KamajiGateway, after.Status.KamajiGateway)
		}})
}

// notCreated leaves out objects that appear: this controller has made them, and
// knows. Changes and deletions by others matter.
func notCreated() predicate.Predicate {
	return predicate.And(written(), predicate.Funcs{CreateFunc: func(event.CreateEvent) bool { return false }})
}

// written leaves out what the cache delivers again every --sync-period: tenants
// know themselves when they are due, and a thousand of them own twenty thousand objects.
func written() predicate.Predicate { return predicate.ResourceVersionChangedPredicate{} }

// storeChanged wakes tenants when a DataStore appears, becomes usable or is
// configured differently. Who has to know of one that fails is failedStore's matter:
// a thousand passes could do nothing.
func storeChanged() predicate.Predicate {
	return predicate.Funcs{
		DeleteFunc: func(event.DeleteEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*kamajiv1alpha1.DataStore)
			after, alsoOK := e.ObjectNew.(*kamajiv1alpha1.DataStore)
			if !ok || !alsoOK {
				return false
			}
			reason := func(store *kamajiv1alpha1.DataStore) string {
				if c := meta.FindStatusCondition(store.Status.Conditions, phase.Ready); c != nil {
					return c.Reason
				}
				return ""
			}
			return before.Generation != after.Generation || after.Status.Ready && !before.Status.Ready ||
				!after.Status.Ready && reason(before) == ""
		},
	}
}

func (r *Reconciler) tenantsOfStore(ctx context.Context, store client.Object) []reconcile.Request {
	var tenants kamajiv1alpha1.TenantControlPlaneList
	if err := r.Client.List(ctx, &tenants, client.MatchingFields{storage.UsersIndex: store.GetName()}); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "listing the tenants of a DataStore", "datastore", store.GetName())
		return nil
	}
	return requests(tenants.Items)
}

func requests(tenants []kamajiv1alpha1.TenantControlPlane) []reconcile.Request {
	out := make([]reconcile.Request, 0, len(tenants))
	for i := range tenants {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&tenants[i])})
	}
	return out
}

// ownerless tells whether a Secret may be the user's or cert-manager's.
func ownerless(o client.Object) bool { return metav1.GetControllerOf(o) == nil }

// tenantsOfSource are the tenants that take a certificate from a Secret.
func (r *Reconciler) tenantsOfSource(ctx context.Context, secret client.Object) []reconcile.Request {
	var tenants kamajiv1alpha1.TenantControlPlaneList
	if err := r.Client.List(ctx, &tenants, client.InNamespace(secret.GetNamespace()), client.MatchingFields{sourcesIndex: secret.GetName()}); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "listing the tenants of a certificate", "secret", secret.GetName())
		return nil
	}
	requests := make([]reconcile.Request, 0, len(tenants.Items))
	for i := range tenants.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&tenants.Items[i])})
	}
	return requests
}
