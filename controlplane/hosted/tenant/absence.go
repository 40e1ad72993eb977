// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"reflect"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// absence asks the API server at most once in a pass for an object that doesn't exist. A new tenant has seventeen of
// them, and both who generates a Secret and who applies it want to be sure.
type absence struct {
	client.Reader

	mu    sync.Mutex
	known map[absent]bool
}

type absent struct {
	kind reflect.Type
	// unstructured has the kind of those that are.
	unstructured schema.GroupVersionKind
	name         types.NamespacedName
}

// Get implements client.Reader.
func (a *absence) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	of := absent{reflect.TypeOf(into), into.GetObjectKind().GroupVersionKind(), key}
	a.mu.Lock()
	known := a.known[of]
	a.mu.Unlock()
	if known {
		return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
	}
	err := a.Reader.Get(ctx, key, into, options...)
	if apierrors.IsNotFound(err) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.known == nil {
			a.known = map[absent]bool{}
		}
		a.known[of] = true
	}
	return err
}
