// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"

	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util"
	"sigs.k8s.io/cluster-api/util/predicates"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
)

// SetupWithManager adds the RackCluster controller to mgr.
func SetupWithManager(ctx context.Context, mgr ctrl.Manager, options Options) error {
	if options.Concurrency == 0 {
		options.Concurrency = 10
	}
	if options.ControlPlanePatience == 0 {
		options.ControlPlanePatience = defaultPatience
	}
	r := &Reconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), options: options}
	log := ctrl.LoggerFrom(ctx).WithValues("controller", "rackcluster")
	toRackCluster := util.ClusterToInfrastructureMapFunc(ctx, infrav1.GroupVersion.WithKind("RackCluster"), mgr.GetClient(), &infrav1.RackCluster{})
	err := ctrl.NewControllerManagedBy(mgr).
		Named("rackcluster").
		For(&infrav1.RackCluster{}, builder.WithPredicates(
			predicates.ResourceHasFilterLabel(mgr.GetScheme(), log, options.WatchFilter),
			predicates.ResourceIsNotExternallyManaged(mgr.GetScheme(), log))).
		Watches(&clusterv1.Cluster{}, handler.EnqueueRequestsFromMapFunc(toRackCluster),
			builder.WithPredicates(predicate.Or(predicates.ClusterPausedTransitions(mgr.GetScheme(), log), controlPlaneInitialized()))).
		Watches(&infrav1.RackHost{}, handler.EnqueueRequestsFromMapFunc(r.hostToClusters), builder.WithPredicates(failureDomainChanged())).
		WithOptions(controller.Options{MaxConcurrentReconciles: options.Concurrency}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the RackCluster controller: %w", err)
	}
	return nil
}

func (r *Reconciler) hostToClusters(ctx context.Context, host client.Object) []ctrl.Request {
	list := &infrav1.RackClusterList{}
	if err := r.Client.List(ctx, list, client.InNamespace(host.GetNamespace())); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing the RackClusters beside a host")
		return nil
	}
	requests := make([]ctrl.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}

// controlPlaneInitialized lets through the moment at which a control plane has answered for the first time.
func controlPlaneInitialized() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false },
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, after := e.ObjectOld.(*clusterv1.Cluster), e.ObjectNew.(*clusterv1.Cluster)
			return !ptr.Deref(before.Status.Initialization.ControlPlaneInitialized, false) &&
				ptr.Deref(after.Status.Initialization.ControlPlaneInitialized, false)
		},
	}
}

// failureDomainChanged lets through what can change the set: hosts that come, go or are relabelled.
func failureDomainChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*infrav1.RackHost), e.ObjectNew.(*infrav1.RackHost)
		return before.Spec.FailureDomain != after.Spec.FailureDomain ||
			before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero()
	}}
}
