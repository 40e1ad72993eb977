// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// SetLabel marks the members of a set; its value is the set's name.
const SetLabel = "apply.kamaji.clastix.io/set"

// parallel bounds the requests that one Sync has under way; small, since a manager syncs many tenants at once.
const parallel = 8

// Set is a named group of objects of one controller: what Sync is not given and finds in it is deleted.
type Set struct {
	// Name goes into SetLabel and must be a valid label value, unique among the sets of one namespace.
	Name string
	// Namespace is where the members live, or empty for cluster-wide ones.
	Namespace string
	// Lists has one empty list for each kind that members may have, e.g. &corev1.SecretList{}.
	Lists []client.ObjectList
}

// Sync applies desired, concurrently, as the whole content of set, then deletes members that desired lacks.
// Nothing is deleted unless all of desired was applied. It reports whether anything was written.
func (w *Writer) Sync(ctx context.Context, set Set, desired []client.Object) (bool, error) {
	set.Label(desired)
	changed, err := w.All(ctx, desired)
	if err != nil {
		return changed, err
	}
	removed, err := w.Prune(ctx, set, desired)
	return changed || removed, err
}

// Label marks objects as members of the set. It is needed only by callers that apply members in an order of their
// own and then Prune; Sync does it itself.
func (s Set) Label(objects []client.Object) {
	for _, obj := range objects {
		labels := obj.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[SetLabel] = s.Name
		obj.SetLabels(labels)
	}
}

// Prune deletes the members of set that this writer has applied and that are not in keep. It reports whether anything was deleted.
func (w *Writer) Prune(ctx context.Context, set Set, keep []client.Object) (bool, error) {
	keys := make(map[string]bool, len(keep))
	for _, obj := range keep {
		gvk, err := apiutil.GVKForObject(obj, w.Client.Scheme())
		if err != nil {
			return false, fmt.Errorf("finding the kind of %T: %w", obj, err)
		}
		keys[memberKey(gvk, obj.GetNamespace(), obj.GetName())] = true
	}
	changed := false
	for _, list := range set.Lists {
		removed, err := w.pruneKind(ctx, set, list, keys)
		changed = changed || removed
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// All applies objects concurrently and joins their errors. It reports whether anything was written.
func (w *Writer) All(ctx context.Context, objects []client.Object) (bool, error) {
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		changed bool
		errs    = make([]error, len(objects))
		slots   = make(chan struct{}, parallel)
	)
	for i, obj := range objects {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			wrote, err := w.Apply(ctx, obj)
			errs[i] = err
			mu.Lock()
			changed = changed || wrote
			mu.Unlock()
		})
	}
	wg.Wait()
	return changed, errors.Join(errs...)
}

func (w *Writer) pruneKind(ctx context.Context, set Set, list client.ObjectList, keep map[string]bool) (bool, error) {
	list = list.DeepCopyObject().(client.ObjectList)
	options := []client.ListOption{client.MatchingLabels{SetLabel: set.Name}}
	if set.Namespace != "" {
		options = append(options, client.InNamespace(set.Namespace))
	}
	if err := w.Client.List(ctx, list, options...); err != nil {
		return false, fmt.Errorf("listing members of set %s: %w", set.Name, err)
	}
	items, err := meta.ExtractList(list)
	if err != nil {
		return false, fmt.Errorf("listing members of set %s: %w", set.Name, err)
	}
	changed := false
	for _, item := range items {
		obj, ok := item.(client.Object)
		if !ok {
			continue
		}
		gvk, err := apiutil.GVKForObject(obj, w.Client.Scheme())
		if err != nil {
			return changed, fmt.Errorf("finding the kind of %T: %w", obj, err)
		}
		if keep[memberKey(gvk, obj.GetNamespace(), obj.GetName())] || !obj.GetDeletionTimestamp().IsZero() {
			continue
		}
		// Kubernetes copies a Service's labels to its EndpointSlices and Endpoints, which belong to its controllers.
		if _, ours := obj.GetAnnotations()[HashAnnotationPrefix+w.Owner]; !ours {
			continue
		}
		uid := obj.GetUID()
		err = w.Client.Delete(ctx, obj, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil {
			return changed, fmt.Errorf("deleting %s %s: %w", gvk.Kind, client.ObjectKeyFromObject(obj), err)
		}
		changed = true
	}
	return changed, nil
}

func memberKey(gvk schema.GroupVersionKind, namespace, name string) string {
	return gvk.Group + "/" + gvk.Kind + "/" + namespace + "/" + name
}
