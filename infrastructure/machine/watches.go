// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util"
	"sigs.k8s.io/cluster-api/util/predicates"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
)

// byProviderID indexes RackMachines by spec.providerID; the empty one holds those that may be waiting for a host.
const byProviderID = "spec.providerID"

// SetupWithManager adds the RackMachine controller to mgr.
func SetupWithManager(ctx context.Context, mgr ctrl.Manager, options Options) error {
	if options.Concurrency == 0 {
		options.Concurrency = 10
	}
	r := &Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(),
		Recorder: mgr.GetEventRecorder("rack-machine"), options: options,
	}
	err := mgr.GetFieldIndexer().IndexField(ctx, &infrav1.RackMachine{}, byProviderID, func(obj client.Object) []string {
		return []string{obj.(*infrav1.RackMachine).Spec.ProviderID}
	})
	if err != nil {
		return fmt.Errorf("indexing RackMachines: %w", err)
	}
	clusterToMachines, err := util.ClusterToTypedObjectsMapper(mgr.GetClient(), &infrav1.RackMachineList{}, mgr.GetScheme())
	if err != nil {
		return fmt.Errorf("mapping Clusters to RackMachines: %w", err)
	}
	log := ctrl.LoggerFrom(ctx).WithValues("controller", "rackmachine")
	machineToRackMachine := util.MachineToInfrastructureMapFunc(infrav1.GroupVersion.WithKind("RackMachine"))
	err = ctrl.NewControllerManagedBy(mgr).
		Named("rackmachine").
		For(&infrav1.RackMachine{}, builder.WithPredicates(predicates.ResourceHasFilterLabel(mgr.GetScheme(), log, options.WatchFilter))).
		Watches(&clusterv1.Machine{}, handler.EnqueueRequestsFromMapFunc(machineToRackMachine),
			builder.WithPredicates(predicates.ResourceIsChanged(mgr.GetScheme(), log))).
		Watches(&clusterv1.Cluster{}, handler.EnqueueRequestsFromMapFunc(clusterToMachines),
			builder.WithPredicates(predicates.ClusterPausedTransitionsOrInfrastructureProvisioned(mgr.GetScheme(), log))).
		Watches(&infrav1.RackHostClaim{}, handler.EnqueueRequestsFromMapFunc(claimToMachine)).
		Watches(&infrav1.RackHost{}, handler.EnqueueRequestsFromMapFunc(r.hostToMachines)).
		WithOptions(controller.Options{MaxConcurrentReconciles: options.Concurrency}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up the RackMachine controller: %w", err)
	}
	return nil
}

func claimToMachine(_ context.Context, obj client.Object) []ctrl.Request {
	claim := obj.(*infrav1.RackHostClaim)
	return []ctrl.Request{{NamespacedName: types.NamespacedName{Namespace: claim.Namespace, Name: claim.Spec.Machine.Name}}}
}

// hostToMachines brings up the machine that has the host, or else those that have none: the host may do for one of them.
func (r *Reconciler) hostToMachines(ctx context.Context, obj client.Object) []ctrl.Request {
	host := obj.(*infrav1.RackHost)
	if claim := host.Status.Claim; claim != nil {
		return []ctrl.Request{{NamespacedName: types.NamespacedName{Namespace: host.Namespace, Name: claim.Machine}}}
	}
	waiting := &infrav1.RackMachineList{}
	if err := r.Client.List(ctx, waiting, client.InNamespace(host.Namespace), client.MatchingFields{byProviderID: ""}); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing the RackMachines that wait for a host")
		return nil
	}
	requests := make([]ctrl.Request, 0, len(waiting.Items))
	for i := range waiting.Items {
		requests = append(requests, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&waiting.Items[i])})
	}
	return requests
}
