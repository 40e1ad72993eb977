// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	corev1 "k8s.io/api/core/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// announce tells when the verdict about a tenant changes. Waiting is normal while
// a control plane starts, so only a reason that needs somebody is a warning.
func (r *Reconciler) announce(before, after *kamajiv1alpha1.TenantControlPlane) {
	news := phase.News(before.Status.Conditions, after.Status.Conditions)
	if news == nil {
		return
	}
	kind := corev1.EventTypeNormal
	switch news.Reason {
	case phase.ReasonDone:
		r.Recorder.Eventf(after, nil, kind, "Ready", "Reconcile", "control plane %s serves at %s",
			after.Status.Kubernetes.Version.Version, after.Status.ControlPlaneEndpoint)
		return
	case kamajiv1alpha1.RolloutInProgressReason, kamajiv1alpha1.GatewayPendingReason, kamajiv1alpha1.AddressPendingReason,
		kamajiv1alpha1.TenantUnreachableReason, kamajiv1alpha1.SleepingReason, stoppingReason:
	default:
		kind = corev1.EventTypeWarning
	}
	r.Recorder.Eventf(after, nil, kind, news.Reason, "Reconcile", "%s", news.Message)
}
