// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// inNATS has a tenant whose login is a file, and who gets nothing of the operator's.
func (w *world) inNATS(t *testing.T) {
	server := storagetest.StartNATS(t, 1)
	store := natsStore("nats", server)
	content := func(value []byte) kamajiv1alpha1.ContentRef { return kamajiv1alpha1.ContentRef{Content: value} }
	shared := store.DeepCopy()
	shared.Name, shared.Spec.NATS = "nats-for-one", nil
	shared.Spec.BasicAuth = &kamajiv1alpha1.BasicAuth{Username: content([]byte("admin")), Password: content([]byte("secret"))}
	tn := manifest(t, "customer1.yaml")
	tn.Name, tn.Spec.DataStore = "in-nats", store.Name
	w.create(t, store, shared, tn)
	w.eventually(t, func(ctx context.Context) string {
		if err := w.client.Get(ctx, client.ObjectKeyFromObject(shared), shared); err != nil {
			return err.Error()
		}
		if c := meta.FindStatusCondition(shared.Status.Conditions, phase.Ready); c == nil || c.Reason != string(storage.ReasonInvalid) {
			return fmt.Sprintf("a DataStore with basicAuth alone has the conditions %v", shared.Status.Conditions)
		}
		return ""
	})
	w.tenant(t, tn.Name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.RolloutInProgressReason)
	if sidecars := w.deployment(t, tn.Name).Spec.Template.Spec.InitContainers; len(sidecars) != 1 || sidecars[0].Image != desired.KineImage {
		t.Errorf("the pods have the sidecars %v", sidecars)
	}
	w.onlyOwnLogin(t, server)

	first := w.natsLogin(t, tn, server)
	w.annotate(t, w.secret(t, tn.Name+"-datastore-certificate"), kamajiv1alpha1.RotateAnnotation, "")
	w.eventually(t, func(context.Context) string {
		if bytes.Equal(w.secret(t, tn.Name+"-datastore-certificate").Data[storage.LoginFile], first) {
			return "the login was not rotated"
		}
		return ""
	})
	w.natsLogin(t, tn, server)

	w.staysInNATS(t, store, tn)

	if err := w.client.Delete(t.Context(), tn); err != nil {
		t.Fatal(err)
	}
	w.collect(t, tn.Name)
	w.gone(t, tn)
	if accounts := server.Accounts(t); len(accounts) != 1 {
		t.Errorf("%d accounts are left, want the system's alone", len(accounts))
	}
}

// natsStore is a DataStore for a NATS.
func natsStore(name string, server *storagetest.NATS) *kamajiv1alpha1.DataStore {
	content := func(value []byte) kamajiv1alpha1.ContentRef { return kamajiv1alpha1.ContentRef{Content: value} }
	return &kamajiv1alpha1.DataStore{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: kamajiv1alpha1.DataStoreSpec{
		Driver: kamajiv1alpha1.DriverNATS, Endpoints: server.Config.Endpoints,
		NATS:      &kamajiv1alpha1.NATS{OperatorSeed: content(server.Config.NATS.OperatorSeed), SystemCredentials: content(server.Config.NATS.SystemCredentials)},
		TLSConfig: &kamajiv1alpha1.TLSConfig{CertificateAuthority: kamajiv1alpha1.CertKeyPair{Certificate: content(server.CA)}},
	}}
}

// staysInNATS tries to move a tenant to the store where it is, under another name.
func (w *world) staysInNATS(t *testing.T, store *kamajiv1alpha1.DataStore, tn *kamajiv1alpha1.TenantControlPlane) {
	t.Helper()
	other := &kamajiv1alpha1.DataStore{ObjectMeta: metav1.ObjectMeta{Name: "nats-2"}, Spec: *store.Spec.DeepCopy()}
	w.create(t, other)
	w.store(t, other.Name, true, phase.ReasonDone)
	for _, to := range []string{other.Name, store.Name} {
		patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"dataStore":"`+to+`"}}`))
		if err := w.client.Patch(t.Context(), tn.DeepCopy(), patch); err != nil {
			t.Fatal(err)
		}
		if to == other.Name {
			after := w.tenant(t, tn.Name, kamajiv1alpha1.MigratingCondition, metav1.ConditionFalse, "MigrationFailed")
			if c := meta.FindStatusCondition(after.Status.Conditions, kamajiv1alpha1.MigratingCondition); !strings.Contains(c.Message, "the same store") {
				t.Errorf("it says: %s", c.Message)
			}
		}
	}
}

// natsLogin returns the login of a tenant, with which it can write.
func (w *world) natsLogin(t *testing.T, tn *kamajiv1alpha1.TenantControlPlane, server *storagetest.NATS) []byte {
	t.Helper()
	schema := string(w.secret(t, tn.Name+"-datastore-config").Data["DB_SCHEMA"])
	file := w.secret(t, tn.Name+"-datastore-certificate").Data[storage.LoginFile]
	w.eventually(t, func(context.Context) string {
		if err := server.Put(storage.Tenant{}, storage.Credentials{Login: file}, "/"+schema+"/a", "1"); err != nil {
			return err.Error()
		}
		return ""
	})
	return file
}

// onlyOwnLogin fails when a Secret holds what the engine authenticates with.
func (w *world) onlyOwnLogin(t *testing.T, server *storagetest.NATS) {
	t.Helper()
	secrets := &corev1.SecretList{}
	if err := w.client.List(t.Context(), secrets); err != nil {
		t.Fatal(err)
	}
	for _, secret := range secrets.Items {
		for key, value := range secret.Data {
			if bytes.Contains(value, server.Config.NATS.OperatorSeed) || bytes.Contains(value, server.Config.NATS.SystemCredentials) {
				t.Errorf("Secret %s has a credential of the engine in %s", secret.Name, key)
			}
		}
	}
}
