// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
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
	case kamajiv1alpha1.RolloutInProgressReason, kamajiv1alpha1.ChangePendingReason, kamajiv1alpha1.GatewayPendingReason, kamajiv1alpha1.AddressPendingReason, kamajiv1alpha1.RoutePendingReason,
		kamajiv1alpha1.TenantUnreachableReason, kamajiv1alpha1.SleepingReason, kamajiv1alpha1.StartQueuedReason, kamajiv1alpha1.NamespaceTerminatingReason, stoppingReason:
	default:
		kind = corev1.EventTypeWarning
	}
	r.Recorder.Eventf(after, nil, kind, news.Reason, "Reconcile", "%s", news.Message)
}

// refuse tells why rotations that were asked for don't begin. It is told again from
// time to time, until somebody takes the annotation off or removes the cause.
func (r *Reconciler) refuse(s *scope, refused map[string]string) {
	key := memoryKey{tenant: client.ObjectKeyFromObject(s.tenant), task: taskRefusal}
	var inputs []string
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		inputs = append(inputs, name, refused[name])
	}
	if told, _ := r.memory.done(key, inputs, s.now); told {
		return
	}
	r.memory.note(key, inputs, s.now.Add(resyncEvery))
	for name, why := range refused {
		// Events that differ in nothing but their text are counted as one, so the Secret is part of it.
		r.Recorder.Eventf(s.tenant, s.reference(name), corev1.EventTypeWarning, kamajiv1alpha1.RotationRefusedReason, "Rotate", "%s", why)
	}
}

// reference names a Secret of the tenant in an Event.
func (s *scope) reference(name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.tenant.Namespace, Name: desired.Name(s.tenant, name)}}
}

// changes are the Events for what was done to Secrets.
var changes = map[pki.Change]struct{ kind, reason, text string }{
	pki.Issued:     {corev1.EventTypeNormal, "CertificatesIssued", "issued"},
	pki.Renewed:    {corev1.EventTypeNormal, "CertificatesRenewed", "renewed before they expire"},
	pki.Reissued:   {corev1.EventTypeNormal, "CertificatesReissued", "issued anew for other names, addresses, or by another authority"},
	pki.Rotated:    {corev1.EventTypeNormal, "CertificatesRotated", "issued anew on request"},
	pki.Repaired:   {corev1.EventTypeWarning, "SecretRepaired", "could not be used and was repaired"},
	pki.Replaced:   {corev1.EventTypeWarning, "AuthorityReplaced", "holds another authority that somebody has put there; it signs from now on, and the former one, whose key is lost, stays trusted"},
	pki.TrustsNext: {corev1.EventTypeNormal, "NextAuthorityTrusted", "has the next authority or key beside the present one; both are being made trusted"},
	pki.SignsAnew:  {corev1.EventTypeNormal, "NextAuthoritySigns", "signs with the next authority or key; the former one is still trusted"},
	pki.Retired:    {corev1.EventTypeNormal, "FormerAuthorityRetired", "no longer has the former authority or key"},
}

// tell makes one Event for each kind of change, however many Secrets it concerns.
func (r *Reconciler) tell(s *scope) {
	by := map[pki.Change][]string{}
	for _, n := range s.notes {
		by[n.Change] = append(by[n.Change], n.Secret)
	}
	for change, names := range by {
		slices.Sort(names)
		e := changes[change]
		r.Recorder.Eventf(s.tenant, s.reference(names[0]), e.kind, e.reason, "Issue", "%s: %s", strings.Join(slices.Compact(names), ", "), e.text)
	}
	s.notes = nil
}
