// SPDX-License-Identifier: Apache-2.0

package phase

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// PatchStatus writes the status of after as one merge patch against before, and nothing when the two are equal.
// Both must be the same object; only the status sub-resource is sent. An object that is gone is no error.
func PatchStatus[O client.Object](ctx context.Context, c client.Client, before, after O) error {
	if equality.Semantic.DeepEqual(before, after) {
		return nil
	}
	patch := client.MergeFrom(before)
	data, err := patch.Data(after)
	if err != nil {
		return fmt.Errorf("comparing status of %s: %w", client.ObjectKeyFromObject(after), err)
	}
	if string(data) == "{}" {
		return nil
	}
	if err := c.Status().Patch(ctx, after.DeepCopyObject().(O), patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("patching status of %s: %w", client.ObjectKeyFromObject(after), err)
	}
	return nil
}

// PatchFinalizers writes the finalizers of after, and demands that the object still is of before's version, because a
// list is replaced as a whole. The status of after is kept as it is. An object that is gone is an error: who puts a
// finalizer on must not go on without it.
func PatchFinalizers[O client.Object](ctx context.Context, c client.Client, before, after O) error {
	sent := after.DeepCopyObject().(O)
	if err := c.Patch(ctx, sent, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("patching finalizers of %T %s: %w", after, client.ObjectKeyFromObject(after), err)
	}
	after.SetFinalizers(sent.GetFinalizers())
	after.SetResourceVersion(sent.GetResourceVersion())
	return nil
}
