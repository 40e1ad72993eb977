// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/predicates"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
)

// SetupWithManager watches KamajiControlPlanes that carry the watch filter, their TenantControlPlanes and published
// Secrets, and Clusters (pause, network, endpoint).
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, options controller.Options, watchFilter string) error {
	log := mgr.GetLogger().WithName("kamajicontrolplane")
	return ctrl.NewControllerManagedBy(mgr).
		For(&controlplanev1.KamajiControlPlane{}, builder.WithPredicates(predicates.ResourceHasFilterLabel(mgr.GetScheme(), log, watchFilter))).
		Owns(&kamajiv1alpha1.TenantControlPlane{}).
		Owns(&corev1.Secret{}).
		Watches(&clusterv1.Cluster{}, handler.EnqueueRequestsFromMapFunc(controlPlaneOf)).
		WithOptions(options).
		Complete(r)
}

func controlPlaneOf(_ context.Context, obj client.Object) []reconcile.Request {
	cluster, ok := obj.(*clusterv1.Cluster)
	if !ok || cluster.Spec.ControlPlaneRef.Kind != "KamajiControlPlane" || cluster.Spec.ControlPlaneRef.APIGroup != controlplanev1.GroupVersion.Group {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: cluster.Namespace, Name: cluster.Spec.ControlPlaneRef.Name}}}
}
