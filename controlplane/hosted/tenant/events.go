// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// announce tells when the verdict about a tenant changes. Waiting is normal while
// a control plane starts, so only a reason that needs somebody is a warning.
func (r *Reconciler) announce(before, after *kamajiv1alpha1.TenantControlPlane) {
	was := meta.FindStatusCondition(before.Status.Conditions, phase.Ready)
	is := meta.FindStatusCondition(after.Status.Conditions, phase.Ready)
	if is == nil || was != nil && was.Status == is.Status && was.Reason == is.Reason {
		return
	}
	kind := corev1.EventTypeNormal
	switch is.Reason {
	case phase.ReasonDone:
		r.Recorder.Eventf(after, nil, kind, "Ready", "Reconcile", "control plane %s serves at %s",
			after.Status.Kubernetes.Version.Version, after.Status.ControlPlaneEndpoint)
		return
	case kamajiv1alpha1.RolloutInProgressReason, kamajiv1alpha1.GatewayPendingReason, kamajiv1alpha1.AddressPendingReason,
		kamajiv1alpha1.TenantUnreachableReason, kamajiv1alpha1.SleepingReason, stoppingReason:
	default:
		kind = corev1.EventTypeWarning
	}
	r.Recorder.Eventf(after, nil, kind, is.Reason, "Reconcile", "%s", is.Message)
}
