// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
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

// hurry shortens the grace period of pods that are being deleted. Others are
// left alone, since a ReplicaSet that lives would replace them.
func (r *Reconciler) hurry(ctx context.Context, pods []metav1.PartialObjectMetadata) error {
	for i := range pods {
		p := &pods[i]
		if p.DeletionTimestamp.IsZero() || ptr.Deref(p.DeletionGracePeriodSeconds, 0) <= hurryGrace {
			continue
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
