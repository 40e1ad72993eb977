// SPDX-License-Identifier: Apache-2.0

package datastore

import (
	corev1 "k8s.io/api/core/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// announce tells when the verdict about a store changes, not when it is repeated.
func (r *Reconciler) announce(before, after *kamajiv1alpha1.DataStore) {
	news := phase.News(before.Status.Conditions, after.Status.Conditions)
	if news == nil {
		return
	}
	if after.Status.Ready {
		r.Recorder.Eventf(after, nil, corev1.EventTypeNormal, "Connected", "Probe",
			"%s at %v answers, authenticates and keeps tenants apart", after.Spec.Driver, after.Spec.Endpoints)
		return
	}
	r.Recorder.Eventf(after, nil, corev1.EventTypeWarning, news.Reason, "Probe", "%s", news.Message)
}
