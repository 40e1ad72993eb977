// SPDX-License-Identifier: Apache-2.0

package datastore

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// announce tells when the verdict about a store changes, not when it is repeated.
func (r *Reconciler) announce(before, after *kamajiv1alpha1.DataStore) {
	was := meta.FindStatusCondition(before.Status.Conditions, phase.Ready)
	is := meta.FindStatusCondition(after.Status.Conditions, phase.Ready)
	if is == nil || was != nil && was.Status == is.Status && was.Reason == is.Reason {
		return
	}
	if after.Status.Ready {
		r.Recorder.Eventf(after, nil, corev1.EventTypeNormal, "Connected", "Probe",
			"%s at %v answers, authenticates and keeps tenants apart", after.Spec.Driver, after.Spec.Endpoints)
		return
	}
	r.Recorder.Eventf(after, nil, corev1.EventTypeWarning, is.Reason, "Probe", "%s", is.Message)
}
