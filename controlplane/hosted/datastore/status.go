// SPDX-License-Identifier: Apache-2.0

package datastore

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// summarise fills what is derived from the steps' outcome and the users.
func summarise(store *kamajiv1alpha1.DataStore, users []string, outcome error) {
	status := &store.Status
	status.Ready = outcome == nil
	status.ObservedGeneration = store.Generation
	status.UsedBy = users
	status.Tenants = int32(len(users)) //nolint:gosec // objects of one cluster

	deletion := metav1.Condition{
		Type: kamajiv1alpha1.DataStoreAllowedDeletionCondition, ObservedGeneration: store.Generation,
		Status: metav1.ConditionTrue, Reason: kamajiv1alpha1.DataStoreUnusedReason,
	}
	if len(users) > 0 {
		deletion.Status, deletion.Reason = metav1.ConditionFalse, kamajiv1alpha1.DataStoreStillUsedReason
		deletion.Message = fmt.Sprintf("%d tenants use this store, %s among them", len(users), users[0])
	}
	meta.SetStatusCondition(&status.Conditions, deletion)
	for i := range status.Conditions {
		if c := &status.Conditions[i]; c.Status == metav1.ConditionTrue {
			switch c.Type {
			case kamajiv1alpha1.DataStoreValidCondition:
				c.Reason = kamajiv1alpha1.DataStoreIsValidReason
			case kamajiv1alpha1.DataStoreReachableCondition:
				c.Reason = kamajiv1alpha1.DataStoreConnectedReason
			}
		}
	}
}

// patchBase is what the status patch is computed against. status.ready is
// required, so the first patch must hold it even when it is false, which a
// comparison with an empty status would leave out.
func patchBase(before, after *kamajiv1alpha1.DataStore) *kamajiv1alpha1.DataStore {
	if before.Status.ObservedGeneration > 0 {
		return before
	}
	base := before.DeepCopy()
	base.Status.Ready = !after.Status.Ready
	return base
}
