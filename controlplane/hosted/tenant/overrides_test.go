// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// TestOverrides keeps one resource in an etcd of another authority, and takes it away again.
func TestOverrides(t *testing.T) {
	w := start(t)
	events := storagetest.StartEtcd(t)
	enable := map[string]string{kamajiv1alpha1.EnableEtcdAuthAnnotation: "true"}
	w.dataStore(t, "default", w.etcd.Config, enable)
	w.dataStore(t, "events", events.Config, enable)
	w.store(t, "default", true, phase.ReasonDone)
	w.store(t, "events", true, phase.ReasonDone)
	tn := manifest(t, "customer1.yaml")
	tn.Spec.DataStoreOverrides = []kamajiv1alpha1.DataStoreOverride{{Resource: "/events", DataStore: "events"}}
	w.create(t, tn)
	w.tenant(t, name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.RolloutInProgressReason)
	w.kubelet.run(t, w.client, w.deployment(t, name), w.address(t, name))
	w.pods(t, name, 1)
	tn = w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)

	prefix := "/" + tn.Status.Storage.Setup.Schema + "/"
	inside := w.access(t, name, "super-admin.svc")
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: "default", Name: "first"},
		InvolvedObject: corev1.ObjectReference{Kind: "Namespace", Namespace: "default", Name: "default"},
	}
	if err := inside.Create(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	if n := events.Keys(prefix + "events/default/first"); n != 1 {
		t.Errorf("the other store has %d such keys", n)
	}
	if n := w.etcd.Keys(prefix + "events/default/first"); n != 0 {
		t.Errorf("the tenant's own store has %d such keys", n)
	}
	w.eventually(t, func(ctx context.Context) string {
		store := &kamajiv1alpha1.DataStore{}
		if err := w.client.Get(ctx, client.ObjectKey{Name: "events"}, store); err != nil {
			return err.Error()
		}
		if len(store.Status.UsedBy) != 1 {
			return fmt.Sprintf("used by %v", store.Status.UsedBy)
		}
		return ""
	})
	w.settled(t, name)

	if err := w.client.Delete(t.Context(), tn); err != nil {
		t.Fatal(err)
	}
	w.collect(t, name)
	w.eventually(t, func(context.Context) string {
		if n := events.Keys(prefix) + w.etcd.Keys(prefix); n != 0 {
			return fmt.Sprintf("%d keys are left", n)
		}
		return ""
	})
}
