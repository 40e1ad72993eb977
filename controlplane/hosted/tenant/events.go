// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// announce tells when the verdict about a tenant changes. Waiting is normal while
// a control plane starts, so only a reason that needs somebody is a warning.
func (r *Reconciler) announce(before, after *kamajiv1alpha1.TenantControlPlane) {
	if was, is := before.Status.ControlPlaneEndpoint, after.Status.ControlPlaneEndpoint; was != "" && is != was {
		r.Recorder.Eventf(after, nil, corev1.EventTypeWarning, "EndpointChanged", "Reconcile",
			"the API server moved from %s to %s; certificate, kubeconfigs and what joining nodes read now have the new address, nodes that have joined keep the former", was, is)
	}
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
	case kamajiv1alpha1.RolloutInProgressReason, kamajiv1alpha1.GatewayPendingReason, kamajiv1alpha1.AddressPendingReason, kamajiv1alpha1.RoutePendingReason,
		kamajiv1alpha1.TenantUnreachableReason, kamajiv1alpha1.SleepingReason, kamajiv1alpha1.NamespaceTerminatingReason, stoppingReason:
	default:
		kind = corev1.EventTypeWarning
	}
	r.Recorder.Eventf(after, nil, kind, news.Reason, "Reconcile", "%s", news.Message)
}

// refuse tells of requests to rotate what everything else is verified with. The
// annotation stays, and it is told again from time to time, until somebody takes
// it off.
func (r *Reconciler) refuse(s *scope) {
	key := memoryKey{tenant: client.ObjectKeyFromObject(s.tenant), task: taskRefusal}
	if told, _ := r.memory.done(key, s.refused, s.now); told {
		return
	}
	r.memory.remember(key, s.refused, s.now)
	for _, name := range s.refused {
		// Events that differ in nothing but their text are counted as one, so the Secret is part of it.
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.tenant.Namespace, Name: desired.Name(s.tenant, name)}}
		r.Recorder.Eventf(s.tenant, secret, corev1.EventTypeWarning, "RotationRefused", "Rotate",
			"annotation %s on Secret %s is ignored: this release can't have the old and the new key trusted for a while, so nodes, kubeconfigs or tokens "+
				"would stop working at once. Remove the annotation; certificates of authorities are renewed by themselves. If the key has leaked, delete the Secret, "+
				"which replaces it, and join all nodes again", kamajiv1alpha1.RotateAnnotation, secret.Name)
	}
}
