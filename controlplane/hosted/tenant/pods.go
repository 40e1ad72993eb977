// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
)

// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups=apps,resources=replicasets,verbs=get;delete

// hurryGrace is how many seconds the pods of a deleted tenant have to stop.
// Nobody needs their last answers. It is not 0, with which a pod disappears
// from the API before anybody knows that its processes have stopped.
const hurryGrace int64 = 1

// pod is a Pod, of which only the metadata is kept in the cache.
func pod() *metav1.PartialObjectMetadata {
	out := &metav1.PartialObjectMetadata{}
	out.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	return out
}

// pods are those of a tenant, including the ones that are stopping. A
// Deployment's status doesn't count these.
func (r *Reconciler) pods(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) ([]metav1.PartialObjectMetadata, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	err := r.Client.List(ctx, list, client.InNamespace(tenant.Namespace), client.MatchingLabels(desired.Selector(tenant)))
	if err != nil {
		return nil, fmt.Errorf("listing the pods of TenantControlPlane %s: %w", client.ObjectKeyFromObject(tenant), err)
	}
	return list.Items, nil
}

// end stops pods of a Deployment that is being deleted, before the garbage collector does: a kubelet keeps to the time that
// a pod had when it began to stop it (kubelet.go of v1.36, SyncTerminatingPod, issue 113606), and with the time for others to turn to
// another pod that would be a quarter of a minute. Their ReplicaSet goes first, since one that lives would replace them.
func (r *Reconciler) end(ctx context.Context, deployment *appsv1.Deployment, pods []metav1.PartialObjectMetadata) error {
	ended := map[types.UID]bool{}
	for i := range pods {
		p := &pods[i]
		if !p.DeletionTimestamp.IsZero() && ptr.Deref(p.DeletionGracePeriodSeconds, 0) <= hurryGrace {
			continue
		}
		if p.DeletionTimestamp.IsZero() {
			owner := metav1.GetControllerOf(p)
			if owner == nil || owner.Kind != "ReplicaSet" || deployment == nil {
				continue
			}
			if _, asked := ended[owner.UID]; !asked {
				var err error
				if ended[owner.UID], err = r.endReplicaSet(ctx, deployment, owner); err != nil {
					return err
				}
			}
			if !ended[owner.UID] {
				continue
			}
		}
		stopping := pod()
		stopping.Namespace, stopping.Name = p.Namespace, p.Name
		err := r.Client.Delete(ctx, stopping, client.GracePeriodSeconds(hurryGrace), client.Preconditions{UID: &p.UID})
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("stopping Pod %s: %w", client.ObjectKeyFromObject(p), err)
		}
	}
	return nil
}

// endReplicaSet deletes a ReplicaSet that is the Deployment's, whatever the pod says that has named it, and tells whether
// it makes no pods any more.
func (r *Reconciler) endReplicaSet(ctx context.Context, deployment *appsv1.Deployment, owner *metav1.OwnerReference) (bool, error) {
	key := client.ObjectKey{Namespace: deployment.Namespace, Name: owner.Name}
	rs := &metav1.PartialObjectMetadata{}
	rs.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
	if err := r.Live.Get(ctx, key, rs); err != nil {
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return false, fmt.Errorf("reading ReplicaSet %s: %w", key, err)
	}
	if rs.UID != owner.UID || !metav1.IsControlledBy(rs, deployment) {
		return false, nil
	}
	err := r.Client.Delete(ctx, rs, client.PropagationPolicy(metav1.DeletePropagationForeground), client.Preconditions{UID: &rs.UID})
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("deleting ReplicaSet %s: %w", key, err)
	}
	return true, nil
}

// podStopped leaves only what a Deployment doesn't report: a pod that starts to
// stop, and one that is gone.
func podStopped() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectOld.GetDeletionTimestamp().IsZero() && !e.ObjectNew.GetDeletionTimestamp().IsZero()
		},
	}
}

// tenantOfPod finds the tenant by the label that its Service selects pods with.
func tenantOfPod(p client.Object) (types.NamespacedName, bool) {
	name := p.GetLabels()[kamajiv1alpha1.NameLabel]
	return types.NamespacedName{Namespace: p.GetNamespace(), Name: name}, name != ""
}
