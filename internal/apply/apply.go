// SPDX-License-Identifier: Apache-2.0

// Package apply is the only writer of managed objects.
//
// Builders return complete objects; Writer sends each by server-side apply under one field manager, and only when
// the live object does not hold it already. Sync also removes the members of a named set that are no longer wanted.
//
// Whether a write is needed is decided from the cache: the desired fields must all be present in the live object
// (this finds drift), and the hash of the last desired object, kept in an annotation, must be unchanged (this finds
// fields that were dropped from the desired object).
package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// HashAnnotationPrefix begins the annotation that holds the SHA-256 of what one field manager last applied to the
// object, in hexadecimal, 32 digits; the field manager's name follows, so that two can share an object.
const HashAnnotationPrefix = "apply.kamaji.clastix.io/"

// ForeignError says that an object with a name of ours exists and belongs to somebody else; it was not touched.
type ForeignError struct {
	// Object is "Kind namespace/name".
	Object string
}

func (e *ForeignError) Error() string {
	return e.Object + " exists and is not managed by this object; rename or remove it"
}

// Writer applies objects with one field manager.
type Writer struct {
	// Client reads (normally from a cache) and writes.
	Client client.Client
	// Live, when set, confirms on the API server that an object absent from the cache is absent.
	// Needed where the cache is filtered and so cannot see foreign objects.
	Live client.Reader
	// Owner is the field manager: a short lower-case name, at most 63 characters.
	Owner string
}

// Apply makes the cluster hold desired and reports whether it had to write. Afterwards desired is the live object.
// An existing object that is not controlled by desired's controller reference yields a *ForeignError.
func (w *Writer) Apply(ctx context.Context, desired client.Object) (bool, error) {
	gvk, err := apiutil.GVKForObject(desired, w.Client.Scheme())
	if err != nil {
		return false, fmt.Errorf("finding the kind of %T: %w", desired, err)
	}
	name := fmt.Sprintf("%s %s", gvk.Kind, client.ObjectKeyFromObject(desired))
	intent, err := Intent(desired)
	if err != nil {
		return false, fmt.Errorf("encoding %s: %w", name, err)
	}
	intent.SetGroupVersionKind(gvk)
	hash, err := hashOf(intent)
	if err != nil {
		return false, fmt.Errorf("encoding %s: %w", name, err)
	}
	if err := unstructured.SetNestedField(intent.Object, hash, "metadata", "annotations", HashAnnotationPrefix+w.Owner); err != nil {
		return false, fmt.Errorf("encoding %s: %w", name, err)
	}

	live, err := w.read(ctx, desired)
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", name, err)
	}
	if live != nil {
		if foreign(desired, live) {
			return false, &ForeignError{Object: name}
		}
		current, err := runtime.DefaultUnstructuredConverter.ToUnstructured(live)
		if err != nil {
			return false, fmt.Errorf("encoding %s: %w", name, err)
		}
		if contains(current, withoutKind(intent.Object)) {
			reflect.ValueOf(desired).Elem().Set(reflect.ValueOf(live).Elem())
			return false, nil
		}
	}
	if err := w.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(intent), client.FieldOwner(w.Owner), client.ForceOwnership); err != nil {
		return false, fmt.Errorf("applying %s: %w", name, err)
	}
	return true, fromUnstructured(intent, desired)
}

// Intent is what is sent for obj: without status, server-made metadata, nulls and the zero structs that Go's
// encoder emits although nobody meant them.
func Intent(obj client.Object) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, err
	}
	delete(content, "status")
	if meta, ok := content["metadata"].(map[string]any); ok {
		for _, field := range []string{"creationTimestamp", "managedFields", "resourceVersion", "uid", "generation", "selfLink"} {
			delete(meta, field)
		}
	}
	prune(content)
	return &unstructured.Unstructured{Object: content}, nil
}

// zeroStructs are fields whose empty value Go's encoder writes for structs without omitzero, and which mean nothing when empty.
// emptyDir, podSelector and their like mean something when empty and so are not listed.
var zeroStructs = map[string]bool{"strategy": true, "updateStrategy": true, "resources": true, "status": true, "creationTimestamp": true}

func prune(value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, item := range v {
			prune(item)
			if item == nil {
				delete(v, key)
			} else if m, ok := item.(map[string]any); ok && len(m) == 0 && zeroStructs[key] {
				delete(v, key)
			}
		}
	case []any:
		for _, item := range v {
			prune(item)
		}
	}
}

// read returns the live object, which nobody else holds and has the type of desired, or nil if there is none.
func (w *Writer) read(ctx context.Context, desired client.Object) (client.Object, error) {
	live := reflect.New(reflect.TypeOf(desired).Elem()).Interface().(client.Object)
	if u, ok := desired.(*unstructured.Unstructured); ok {
		live.GetObjectKind().SetGroupVersionKind(u.GroupVersionKind())
	}
	key := client.ObjectKeyFromObject(desired)
	err := w.Client.Get(ctx, key, live)
	if apierrors.IsNotFound(err) && w.Live != nil {
		err = w.Live.Get(ctx, key, live)
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return live, err
}

// foreign tells whether live belongs to another controller than the one desired names. Objects without a wanted
// controller (cluster-wide ones, and those inside a tenant) are ours by name.
func foreign(desired, live client.Object) bool {
	want := metav1.GetControllerOf(desired)
	if want == nil {
		return false
	}
	have := metav1.GetControllerOf(live)
	return have == nil || have.UID != want.UID
}

func hashOf(u *unstructured.Unstructured) (string, error) {
	data, err := json.Marshal(u.Object)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16]), nil
}

func withoutKind(content map[string]any) map[string]any {
	out := make(map[string]any, len(content))
	for key, value := range content {
		if key != "apiVersion" && key != "kind" {
			out[key] = value
		}
	}
	return out
}

func fromUnstructured(u *unstructured.Unstructured, into client.Object) error {
	if out, ok := into.(*unstructured.Unstructured); ok {
		out.Object = u.Object
		return nil
	}
	fresh := reflect.New(reflect.TypeOf(into).Elem())
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, fresh.Interface()); err != nil {
		return fmt.Errorf("decoding %T: %w", into, err)
	}
	reflect.ValueOf(into).Elem().Set(fresh.Elem())
	return nil
}
