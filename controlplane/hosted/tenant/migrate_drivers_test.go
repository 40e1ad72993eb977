// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// A tenant goes from etcd to a database and back, with kine beside its API server
// where it belongs, and a client that is never restarted.
func TestMigrationAcrossDrivers(t *testing.T) {
	m, life := &moving{world: start(t)}, t
	server := storagetest.StartPostgres(t)
	auth := map[string]string{kamajiv1alpha1.EnableEtcdAuthAnnotation: "true"}
	m.dataStore(t, "default", m.etcd.Config, auth)
	m.sqlStore(t, "postgres", server.Config)
	m.store(t, "default", true, phase.ReasonDone)
	m.store(t, "postgres", true, phase.ReasonDone)
	m.create(t, manifest(t, "customer1.yaml"))
	m.tenant(t, name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.RolloutInProgressReason)
	m.boot(t, life)
	m.schema = m.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone).Status.Storage.Setup.Schema
	m.use(t)

	t.Run("pods that don't get ready on the database", func(t *testing.T) { m.returns(t, life) })
	t.Run("to the database", func(t *testing.T) {
		m.goes(t, life, "postgres", true)
		m.clientsGoOn(t)
		if n := server.Keys("/" + m.schema + "/"); n < 50 {
			t.Errorf("the database has %d keys", n)
		}
	})
	t.Run("the client certificate for etcd is gone", func(t *testing.T) {
		secret := m.secret(t, name+"-datastore-certificate")
		if len(secret.Data["server.crt"])+len(secret.Data["server.key"]) > 0 {
			t.Errorf("Secret %s still has a certificate", secret.Name)
		}
	})
	t.Run("and back", func(t *testing.T) {
		m.goes(t, life, "default", false)
		m.clientsGoOn(t)
	})
	m.quiet()
	t.Run("a second pass writes nothing", func(t *testing.T) { m.settled(t, name) })
	t.Run("deletion removes both", func(t *testing.T) {
		tn := m.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
		address := m.address(t, name)
		if err := m.client.Delete(t.Context(), tn); err != nil {
			t.Fatal(err)
		}
		m.kubelet.stop(t, name, address)
		m.collect(t, name)
		m.gone(t, tn)
		if a, b := m.etcd.Keys("/"+m.schema+"/"), server.Keys("/"+m.schema+"/"); a != 0 || b != 0 {
			t.Errorf("%d keys are left in etcd, %d in the database", a, b)
		}
	})
}

// sqlStore makes a DataStore for a PostgreSQL, with its Secret.
func (w *world) sqlStore(t *testing.T, name string, config storage.Config) {
	t.Helper()
	ref := func(key string) kamajiv1alpha1.ContentRef {
		return kamajiv1alpha1.ContentRef{SecretRef: &kamajiv1alpha1.SecretReference{Namespace: system, Name: name + "-admin", KeyPath: key}}
	}
	w.create(t, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name + "-admin"},
		Data:       map[string][]byte{"username": []byte(config.Username), "password": []byte(config.Password), "ca.crt": config.CA},
	}, &kamajiv1alpha1.DataStore{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: kamajiv1alpha1.DataStoreSpec{
			Driver: kamajiv1alpha1.DriverPostgreSQL, Endpoints: config.Endpoints,
			BasicAuth: &kamajiv1alpha1.BasicAuth{Username: ref("username"), Password: ref("password")},
			TLSConfig: &kamajiv1alpha1.TLSConfig{CertificateAuthority: kamajiv1alpha1.CertKeyPair{Certificate: ref("ca.crt")}},
		},
	})
}

// withKine says whether there is a Deployment with kine, or without it, as wanted.
func (m *moving) withKine(ctx context.Context, want bool) string {
	args := m.args(ctx, name)
	if args == nil {
		return "there is no Deployment"
	}
	if have := slices.Contains(args, "--etcd-servers=unix:///run/kine/kine.sock"); have != want {
		return fmt.Sprintf("kine: %t, want %t", have, want)
	}
	return ""
}

// goes moves the tenant, and does what kubelets and the garbage collector would.
func (m *moving) goes(t, life *testing.T, to string, kine bool) {
	t.Helper()
	m.move(t, to, map[string]string{kamajiv1alpha1.CleanupPriorMigrationAnnotation: "true"})
	m.tenant(t, name, kamajiv1alpha1.MigratingCondition, metav1.ConditionTrue, kamajiv1alpha1.StoppingPodsReason)
	m.frozen(t)
	m.kubelet.stop(t, name, m.address(t, name))
	m.collect(t, name)
	m.eventually(t, func(ctx context.Context) string { return m.withKine(ctx, kine) })
	m.boot(t, life)
	m.tenant(t, name, kamajiv1alpha1.MigratingCondition, metav1.ConditionFalse, kamajiv1alpha1.MigratedReason)
	tn := m.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	if tn.Status.Storage.DataStoreName != to {
		t.Errorf("storage %+v", tn.Status.Storage)
	}
}

// returns gives up after the switch, when the pods with kine don't get ready.
func (m *moving) returns(t, life *testing.T) {
	m.move(t, "postgres", map[string]string{kamajiv1alpha1.MigrationTimeoutAnnotation: "20s"})
	m.tenant(t, name, kamajiv1alpha1.MigratingCondition, metav1.ConditionTrue, kamajiv1alpha1.StoppingPodsReason)
	m.kubelet.stop(t, name, m.address(t, name))
	m.collect(t, name)
	m.eventually(t, func(ctx context.Context) string { return m.withKine(ctx, true) })
	m.tenant(t, name, kamajiv1alpha1.MigratingCondition, metav1.ConditionTrue, kamajiv1alpha1.ReturningReason)
	m.collect(t, name)
	tn := m.tenant(t, name, kamajiv1alpha1.MigratingCondition, metav1.ConditionFalse, "MigrationTimedOut")
	if tn.Status.Storage.DataStoreName != "default" {
		t.Errorf("storage %+v", tn.Status.Storage)
	}
	m.eventually(t, func(ctx context.Context) string { return m.withKine(ctx, false) })
	m.boot(t, life)
	m.writes(t)
	m.move(t, "default", nil)
	m.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
}
