// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// The gateway writes the address of a new tenant while the engine puts its finalizer on.
func TestHoldTakesTheLatest(t *testing.T) {
	for name, others := range map[string][]string{"only a status": nil, "a finalizer of somebody else": {"example.com/other"}} {
		t.Run(name, func(t *testing.T) { holds(t, others) })
	}
}

func holds(t *testing.T, others []string) {
	scheme := runtime.NewScheme()
	if err := kamajiv1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	made := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: "u"}}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(made).WithStatusSubresource(made).Build()
	cached, latest := &kamajiv1alpha1.TenantControlPlane{}, &kamajiv1alpha1.TenantControlPlane{}
	for _, object := range []client.Object{cached, latest} {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(made), object); err != nil {
			t.Fatal(err)
		}
	}
	latest.Finalizers, latest.Labels = others, map[string]string{"changed": "meanwhile"}
	if err := c.Update(t.Context(), latest); err != nil {
		t.Fatal(err)
	}
	r := &Reconciler{Client: c, Live: decoding{c}}
	if err := r.hold(t.Context(), cached); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(made), latest); err != nil {
		t.Fatal(err)
	}
	want := append(slices.Clone(others), kamajiv1alpha1.DataStoreCleanupFinalizer)
	if !slices.Equal(latest.Finalizers, want) || !slices.Equal(cached.Finalizers, want) || cached.ResourceVersion != latest.ResourceVersion {
		t.Errorf("finalizers %v at version %s, here %v at %s", latest.Finalizers, latest.ResourceVersion, cached.Finalizers, cached.ResourceVersion)
	}
}

// decoding reads like a client without cache: what the answer doesn't have stays as it was.
type decoding struct{ client.Reader }

func (d decoding) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	answer := reflect.New(reflect.TypeOf(into).Elem()).Interface().(client.Object)
	if err := d.Reader.Get(ctx, key, answer, options...); err != nil {
		return err
	}
	data, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}
