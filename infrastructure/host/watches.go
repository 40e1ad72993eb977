// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"fmt"
	"maps"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util"
	"sigs.k8s.io/cluster-api/util/predicates"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
)

// SetupWithManager adds the host controller to mgr. dial opens connections to hosts.
func SetupWithManager(ctx context.Context, mgr ctrl.Manager, dial driver.Dialer, options Options) error {
	r := &Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Dial: dial,
		Recorder: mgr.GetEventRecorder("rack-host"), options: options.withDefaults(),
	}
	// A claim has the name of its host, so the claims of a cluster are the requests for its hosts.
	clusterToHosts, err := util.ClusterToTypedObjectsMapper(mgr.GetClient(), &infrav1.RackHostClaimList{}, mgr.GetScheme())
	if err != nil {
		return fmt.Errorf("mapping Clusters to RackHosts: %w", err)
	}
	log := ctrl.LoggerFrom(ctx).WithValues("controller", "rackhost")
	err = ctrl.NewControllerManagedBy(mgr).
		Named("rackhost").
		For(&infrav1.RackHost{}, builder.WithPredicates(
			predicates.ResourceHasFilterLabel(mgr.GetScheme(), log, options.WatchFilter), worthALook())).
		Watches(&infrav1.RackHostClaim{}, &handler.EnqueueRequestForObject{}).
		Watches(&clusterv1.Cluster{}, handler.EnqueueRequestsFromMapFunc(clusterToHosts),
			builder.WithPredicates(predicates.ClusterPausedTransitions(mgr.GetScheme(), log))).
		WithOptions(controller.Options{MaxConcurrentReconciles: r.options.Concurrency}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the RackHost controller: %w", err)
	}
	return nil
}

// worthALook leaves out the echo of our own status patches, which would look at a bootstrapping host twice as often
// as wanted. A status that was wiped is no echo.
func worthALook() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*infrav1.RackHost), e.ObjectNew.(*infrav1.RackHost)
		return before.Generation != after.Generation ||
			!maps.Equal(before.Annotations, after.Annotations) ||
			!maps.Equal(before.Labels, after.Labels) ||
			before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero() ||
			after.Status.Phase == "" && before.Status.Phase != ""
	}}
}
