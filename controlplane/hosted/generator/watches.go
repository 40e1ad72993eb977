// SPDX-License-Identifier: Apache-2.0

package generator

import (
	"context"
	"reflect"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
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
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeconfig"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

const (
	// generatedIndex finds the generated Secrets of a tenant by its name, within a namespace.
	generatedIndex = "kubeconfiggenerator.tenant"
	// reportDelay collects the changes of many tenants into one status.
	reportDelay = 2 * time.Second
	// defaultConcurrency of tenants.
	defaultConcurrency = 4
)

// SetupWithManager registers the controllers.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &corev1.Secret{}, generatedIndex, func(o client.Object) []string {
		owner := metav1.GetControllerOf(o)
		if o.GetLabels()[kamajiv1alpha1.ManagedByLabel] == "" || owner == nil {
			return nil
		}
		return []string{owner.Name}
	})
	if err != nil {
		return err
	}
	concurrency := r.Concurrency
	if concurrency == 0 {
		concurrency = defaultConcurrency
	}
	spec := predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}, predicate.LabelChangedPredicate{})
	b := ctrl.NewControllerManagedBy(mgr).
		Named("kubeconfiggenerator-tenants").
		For(&kamajiv1alpha1.TenantControlPlane{}, builder.WithPredicates(predicate.Or(spec, statusMayMatter()))).
		Watches(&corev1.Secret{}, handler.EnqueueRequestForOwner(mgr.GetScheme(), mgr.GetRESTMapper(), &kamajiv1alpha1.TenantControlPlane{},
			handler.OnlyControllerOwner()), builder.WithPredicates(predicate.NewPredicateFuncs(concerns))).
		Watches(&kamajiv1alpha1.KubeconfigGenerator{}, handler.EnqueueRequestsFromMapFunc(r.everyTenant), builder.WithPredicates(spec)).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrency})
	if !r.Namespaced {
		b = b.WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.tenantsIn), builder.WithPredicates(predicate.LabelChangedPredicate{}))
	}
	if err := b.Complete(r); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("kubeconfiggenerator").
		For(&kamajiv1alpha1.KubeconfigGenerator{}, builder.WithPredicates(predicate.Or(spec, wiped()))).
		WatchesRawSource(source.Func(r.counted)).
		Complete(&reporter{client: mgr.GetClient(), tally: &r.tally})
}

// counted wakes the reporter when a count has changed.
func (r *Reconciler) counted(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	r.tally.mu.Lock()
	defer r.tally.mu.Unlock()
	r.tally.changed = func(generator string) {
		queue.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Name: generator}}, reportDelay)
	}
	for name := range r.tally.generators {
		r.tally.changed(name)
	}
	return nil
}

// concerns tells whether a kubeconfig depends on a Secret, or is in it.
func concerns(o client.Object) bool {
	return o.GetLabels()[kamajiv1alpha1.ManagedByLabel] != "" ||
		strings.HasSuffix(o.GetName(), "-"+pki.CA) || strings.HasSuffix(o.GetName(), "-"+kubeconfig.Admin)
}

// statusMayMatter lets those changes of a status pass that a generator may refer to by fromDefinition: conditions and counts of
// pods change often, and are no identity.
func statusMayMatter() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*kamajiv1alpha1.TenantControlPlane)
		after, alsoOK := e.ObjectNew.(*kamajiv1alpha1.TenantControlPlane)
		return ok && alsoOK && (before.Status.ControlPlaneEndpoint != after.Status.ControlPlaneEndpoint ||
			!before.DeletionTimestamp.Equal(after.DeletionTimestamp) || !reflect.DeepEqual(before.Status.KamajiGateway, after.Status.KamajiGateway))
	}}
}

// wiped lets a status pass that somebody has emptied.
func wiped() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*kamajiv1alpha1.KubeconfigGenerator)
		after, alsoOK := e.ObjectNew.(*kamajiv1alpha1.KubeconfigGenerator)
		return ok && alsoOK && before.Status.ObservedGeneration != 0 && after.Status.ObservedGeneration == 0
	}}
}

// everyTenant is for a generator that has changed or gone: whom it selected and selects now.
func (r *Reconciler) everyTenant(ctx context.Context, _ client.Object) []reconcile.Request {
	return r.tenants(ctx)
}

func (r *Reconciler) tenantsIn(ctx context.Context, namespace client.Object) []reconcile.Request {
	return r.tenants(ctx, client.InNamespace(namespace.GetName()))
}

func (r *Reconciler) tenants(ctx context.Context, options ...client.ListOption) []reconcile.Request {
	list := &kamajiv1alpha1.TenantControlPlaneList{}
	if err := r.Client.List(ctx, list, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "listing TenantControlPlanes for a KubeconfigGenerator")
		return nil
	}
	out := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return out
}
