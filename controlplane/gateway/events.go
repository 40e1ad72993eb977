// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// Reasons of events that no condition has.
const (
	allocatedEvent = "GatewayAddressAllocated"
	contestedEvent = "HostnameContested"
)

// announce tells when the verdict about a gateway changes. A data plane that starts is normal; the rest needs somebody.
func (r *Reconciler) announce(before, after *v1alpha2.KamajiGateway) {
	news := phase.News(before.Status.Conditions, after.Status.Conditions)
	if news == nil {
		return
	}
	switch news.Reason {
	case phase.ReasonDone:
		r.Recorder.Eventf(after, nil, corev1.EventTypeNormal, "Ready", "Reconcile", "serves %s and %s on port %d",
			after.Spec.PublicAddress, after.Spec.PrivateAddress, after.Spec.Port)
	case v1alpha2.GatewayDataPlaneNotReadyReason, v1alpha2.GatewayExternalReason, v1alpha2.GatewayCertificatePendingReason:
		r.Recorder.Eventf(after, nil, corev1.EventTypeNormal, news.Reason, "Reconcile", "%s", news.Message)
	default:
		r.Recorder.Eventf(after, nil, corev1.EventTypeWarning, news.Reason, "Reconcile", "%s", news.Message)
	}
}

// announce tells what a tenant was given, and when it can't have what it asks for.
func (r *TenantReconciler) announce(before, after *kamajiv1alpha1.TenantControlPlane) {
	was, is := verdict(before), verdict(after)
	switch {
	case is == nil || was != nil && was.Status == is.Status && was.Reason == is.Reason:
	case is.Status == metav1.ConditionTrue:
		a := after.Status.KamajiGateway
		r.Recorder.Eventf(after, nil, corev1.EventTypeNormal, allocatedEvent, "Allocate", "KamajiGateway %s: host name %s, private address %s, tenant port %d",
			a.Name, a.Hostname, a.PrivateAddress, a.TenantPort)
	default:
		r.Recorder.Eventf(after, nil, corev1.EventTypeWarning, is.Reason, "Allocate", "%s", is.Message)
	}
}

// contested tells the tenant that keeps a host name that another one wants it, once. Neither learns who the other is: they may
// belong to different customers.
func (r *TenantReconciler) contested(loser *kamajiv1alpha1.TenantControlPlane, c *conflict) {
	if was := verdict(loser); was != nil && was.Reason == v1alpha2.HostnameConflictReason {
		return
	}
	r.Recorder.Eventf(c.holder, nil, corev1.EventTypeWarning, contestedEvent, "Allocate",
		"another tenant of the gateway asks for the host name %s, which stays with this one", c.host)
}

// verdict is what the gateway said of the tenant, or nil.
func verdict(tcp *kamajiv1alpha1.TenantControlPlane) *metav1.Condition {
	return meta.FindStatusCondition(tcp.Status.Conditions, v1alpha2.GatewayAddressReadyCondition)
}
