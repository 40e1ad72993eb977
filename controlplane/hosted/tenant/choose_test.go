// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// pool is a reconciler whose cluster has DataStores a and b, each with room for
// one tenant, and a third that is not selected.
func pool(t *testing.T) *Reconciler {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := kamajiv1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	store := func(name, tier string) *kamajiv1alpha1.DataStore {
		return &kamajiv1alpha1.DataStore{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"tier": tier}},
			Spec:       kamajiv1alpha1.DataStoreSpec{MaxTenants: ptr.To[int32](1)}, Status: kamajiv1alpha1.DataStoreStatus{Ready: true},
		}
	}
	users := func(o client.Object) []string { return storage.UsedBy(o.(*kamajiv1alpha1.TenantControlPlane), "") }
	return &Reconciler{Client: fake.NewClientBuilder().WithScheme(scheme).
		WithIndex(&kamajiv1alpha1.TenantControlPlane{}, storage.UsersIndex, users).
		WithObjects(store("a", "gold"), store("b", "gold"), store("c", "iron")).Build()}
}

func member(t *testing.T, r *Reconciler, name string, age time.Duration) *kamajiv1alpha1.TenantControlPlane {
	t.Helper()
	tenant := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(time.Now().Add(-age)),
	}}
	tenant.Spec.DataStoreSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}
	if err := r.Client.Create(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	return tenant
}

func TestChoose(t *testing.T) {
	r := pool(t)
	for _, want := range []string{"a", "b"} {
		tenant := member(t, r, "in-"+want, time.Minute)
		if err := r.choose(t.Context(), tenant); err != nil || tenant.Spec.DataStore != want {
			t.Fatalf("want %s, got %q, %v", want, tenant.Spec.DataStore, err)
		}
		stored := &kamajiv1alpha1.TenantControlPlane{}
		if err := r.Client.Get(t.Context(), client.ObjectKeyFromObject(tenant), stored); err != nil || stored.Spec.DataStore != want {
			t.Errorf("stored is %q, %v", stored.Spec.DataStore, err)
		}
	}
	third := member(t, r, "third", 0)
	reason, message := phase.Outcome(r.choose(t.Context(), third))
	if reason != kamajiv1alpha1.NoDataStoreFitsReason || !strings.Contains(message, "a has 1 of 1 tenants; b has 1 of 1 tenants") {
		t.Errorf("%s: %s", reason, message)
	}
	third.Spec.DataStoreSelector.MatchLabels["tier"] = "lead"
	if reason, message := phase.Outcome(r.choose(t.Context(), third)); reason != kamajiv1alpha1.DataStoreMissingReason || !strings.Contains(message, "tier=lead") {
		t.Errorf("%s: %s", reason, message)
	}
	// A tenant that lost its place in the spec keeps the store that its data is in.
	third.Status.Storage.DataStoreName = "c"
	if err := r.choose(t.Context(), third); err != nil || third.Spec.DataStore != "c" {
		t.Errorf("want c, got %q, %v", third.Spec.DataStore, err)
	}
}

// The cache shows a choice only after a while.
func TestChooseBeforeTheCacheKnows(t *testing.T) {
	r := pool(t)
	r.choices.made = map[types.NamespacedName]string{{Namespace: "default", Name: "other"}: "a"}
	tenant := member(t, r, "late", 0)
	if err := r.choose(t.Context(), tenant); err != nil || tenant.Spec.DataStore != "b" {
		t.Errorf("want b, got %q, %v", tenant.Spec.DataStore, err)
	}
	r.choices.forget(types.NamespacedName{Namespace: "default", Name: "other"})
	if len(r.choices.made) != 1 {
		t.Errorf("remembers %v", r.choices.made)
	}
}

func TestRoom(t *testing.T) {
	r := pool(t)
	store := &kamajiv1alpha1.DataStore{}
	if err := r.Client.Get(t.Context(), client.ObjectKey{Name: "a"}, store); err != nil {
		t.Fatal(err)
	}
	var tenants []*kamajiv1alpha1.TenantControlPlane
	for i, age := range []time.Duration{time.Hour, time.Minute} {
		tenant := member(t, r, fmt.Sprint("t", i), age)
		tenant.Spec.DataStore = "a"
		if err := r.Client.Update(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
		tenants = append(tenants, tenant)
	}
	if err := r.room(t.Context(), tenants[0], store); err != nil {
		t.Errorf("the older one: %v", err)
	}
	if reason, _ := phase.Outcome(r.room(t.Context(), tenants[1], store)); reason != kamajiv1alpha1.DataStoreFullReason {
		t.Errorf("the younger one: %s", reason)
	}
	// One that has data there is in, whatever the limit is now.
	tenants[1].Finalizers = []string{kamajiv1alpha1.DataStoreCleanupFinalizer}
	if err := r.Client.Update(t.Context(), tenants[1]); err != nil {
		t.Fatal(err)
	}
	if err := r.room(t.Context(), tenants[1], store); err != nil {
		t.Errorf("with data: %v", err)
	}
	if reason, _ := phase.Outcome(r.room(t.Context(), tenants[0], store)); reason != kamajiv1alpha1.DataStoreFullReason {
		t.Errorf("the older one without data: %s", reason)
	}
}
