// SPDX-License-Identifier: Apache-2.0

package phase

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// PatchStatus writes the status of after as one merge patch against before, and nothing when the two are equal.
// Both must be the same object; only the status sub-resource is sent. After has the resource version of the write then.
// An object that is gone is no error.
func PatchStatus[O client.Object](ctx context.Context, c client.Client, before, after O) error {
	return patchStatus(ctx, c, before, after, client.MergeFrom(before))
}

// PatchCurrentStatus is PatchStatus for a status that the next pass decides from, such as the phase of a state machine:
// it fails with a conflict unless the object still is of after's version, so that a pass which read an old copy from
// the cache takes nothing back.
func PatchCurrentStatus[O client.Object](ctx context.Context, c client.Client, before, after O) error {
	base := before.DeepCopyObject().(O)
	base.SetResourceVersion(after.GetResourceVersion())
	return patchStatus(ctx, c, before, after, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}))
}

func patchStatus[O client.Object](ctx context.Context, c client.Client, before, after O, patch client.Patch) error {
	if equality.Semantic.DeepEqual(before, after) {
		return nil
	}
	data, err := client.MergeFrom(before).Data(after)
	if err != nil {
		return fmt.Errorf("comparing status of %s: %w", client.ObjectKeyFromObject(after), err)
	}
	if string(data) == "{}" {
		return nil
	}
	sent := after.DeepCopyObject().(O)
	if err := c.Status().Patch(ctx, sent, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("patching status of %s: %w", client.ObjectKeyFromObject(after), err)
	}
	after.SetResourceVersion(sent.GetResourceVersion())
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
