// SPDX-License-Identifier: Apache-2.0

package host

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
)

// announce tells of the phases that mean something to an administrator; the others are seconds long.
func (r *Reconciler) announce(s *scope, next infrav1.HostPhase) {
	switch next {
	case infrav1.HostAvailable:
		r.event(s, corev1.EventTypeNormal, string(next), "The host is verified clean and free")
	case infrav1.HostClaimed:
		r.event(s, corev1.EventTypeNormal, string(next), "The host was claimed by machine %s of cluster %s", s.claim.Spec.Machine.Name, s.claim.Spec.ClusterName)
	case infrav1.HostRunning:
		r.event(s, corev1.EventTypeNormal, string(next), "The host joined cluster %s", s.claim.Spec.ClusterName)
	case infrav1.HostReleasing:
		r.event(s, corev1.EventTypeNormal, string(next), "The host is being released")
	case infrav1.HostQuarantined:
		r.warn(s, string(next), "The host was put into quarantine; condition %s says why", infrav1.HostCleanCondition)
	}
}

func (r *Reconciler) warn(s *scope, reason, format string, args ...any) {
	r.event(s, corev1.EventTypeWarning, reason, format, args...)
}

func (r *Reconciler) event(s *scope, kind, reason, format string, args ...any) {
	var related runtime.Object
	if s.claim != nil {
		related = s.claim
	}
	r.Recorder.Eventf(s.host, related, kind, reason, "HostPhase", format, args...)
}
