// SPDX-License-Identifier: Apache-2.0

package datastore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/datastore"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/fake"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

func start(t *testing.T, store *fake.Store) client.Client {
	t.Helper()
	ctrl.SetLogger(klog.Background())
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, kamajiv1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	config, c := testenv.Start(t, scheme, "config/controlplane/crd/bases/kamaji.clastix.io_tenantcontrolplanes.yaml",
		"config/controlplane/crd/bases/kamaji.clastix.io_datastores.yaml")
	mgr, err := ctrl.NewManager(config, ctrl.Options{Scheme: scheme, Metrics: server.Options{BindAddress: "0"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := storage.IndexUsers(ctx, mgr.GetFieldIndexer(), ""); err != nil {
		t.Fatal(err)
	}
	r := &datastore.Reconciler{
		Client: mgr.GetClient(), Secrets: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("test"),
		Pool: storage.NewPool(storage.Openers{string(kamajiv1alpha1.DriverEtcd): store.Open}),
	}
	if err := r.SetupWithManager(ctx, mgr, ""); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Errorf("the manager: %v", err)
		}
	})
	return c
}

func etcdStore(name string) *kamajiv1alpha1.DataStore {
	ref := kamajiv1alpha1.ContentRef{SecretRef: &kamajiv1alpha1.SecretReference{Namespace: "default", Name: name, KeyPath: "tls.key"}}
	return &kamajiv1alpha1.DataStore{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: kamajiv1alpha1.DataStoreSpec{
			Driver: kamajiv1alpha1.DriverEtcd, Endpoints: []string{"etcd:2379"},
			TLSConfig: &kamajiv1alpha1.TLSConfig{
				CertificateAuthority: kamajiv1alpha1.CertKeyPair{Certificate: ref, PrivateKey: &ref},
				ClientCertificate:    &kamajiv1alpha1.ClientCertificate{Certificate: ref, PrivateKey: ref},
			},
		},
	}
}

// expect waits for a DataStore to be ready or not, for a reason.
func expect(t *testing.T, c client.Client, name string, ready bool, reason string) *kamajiv1alpha1.DataStore {
	t.Helper()
	store, wrong := &kamajiv1alpha1.DataStore{}, ""
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		if err := c.Get(ctx, client.ObjectKey{Name: name}, store); err != nil {
			return false, err
		}
		condition := meta.FindStatusCondition(store.Status.Conditions, phase.Ready)
		wrong = fmt.Sprintf("want ready=%v %s, have %+v", ready, reason, store.Status)
		return condition != nil && condition.Reason == reason && store.Status.Ready == ready, nil
	})
	if err != nil {
		t.Fatalf("%v: %s", err, wrong)
	}
	return store
}

func create(t *testing.T, c client.Client, o client.Object) {
	t.Helper()
	if err := c.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func TestDataStores(t *testing.T) {
	backend := &fake.Store{}
	c := start(t, backend)

	t.Run("driver of a later release", func(t *testing.T) {
		sql := etcdStore("sql")
		sql.Spec.Driver = kamajiv1alpha1.DriverPostgreSQL
		sql.Spec.TLSConfig, sql.Spec.BasicAuth = nil, &kamajiv1alpha1.BasicAuth{
			Username: kamajiv1alpha1.ContentRef{Content: []byte("admin")}, Password: kamajiv1alpha1.ContentRef{Content: []byte("secret")},
		}
		create(t, c, sql)
		expect(t, c, "sql", false, string(storage.ReasonDriverNotSupported))
	})

	t.Run("endpoint with a scheme", func(t *testing.T) {
		bad := etcdStore("scheme")
		bad.Spec.Endpoints = []string{"https://etcd:2379"}
		create(t, c, bad)
		expect(t, c, "scheme", false, string(storage.ReasonInvalid))
	})

	t.Run("Secret appears", func(t *testing.T) {
		create(t, c, etcdStore("main"))
		expect(t, c, "main", false, string(storage.ReasonMissingSecret))
		create(t, c, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "main"}, Data: map[string][]byte{"tls.key": []byte("x")}})
		store := expect(t, c, "main", true, phase.ReasonDone)
		for kind, reason := range map[string]string{
			kamajiv1alpha1.DataStoreValidCondition:           kamajiv1alpha1.DataStoreIsValidReason,
			kamajiv1alpha1.DataStoreReachableCondition:       kamajiv1alpha1.DataStoreConnectedReason,
			kamajiv1alpha1.DataStoreAllowedDeletionCondition: kamajiv1alpha1.DataStoreUnusedReason,
		} {
			if condition := meta.FindStatusCondition(store.Status.Conditions, kind); condition == nil || condition.Reason != reason {
				t.Errorf("condition %s: %+v", kind, condition)
			}
		}
	})

	t.Run("breaks and recovers", func(t *testing.T) {
		backend.Break(storage.Errorf(storage.ReasonUnreachable, "no route to host"))
		touch(t, c, "main")
		expect(t, c, "main", false, kamajiv1alpha1.DataStoreUnreachableReason)
		backend.Break(nil)
		// Nobody tells that it is back; the engine asks again by itself.
		expect(t, c, "main", true, phase.ReasonDone)
	})

	t.Run("deletion waits for the last user", func(t *testing.T) {
		tenant := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "user"}}
		tenant.Spec.DataStoreOverrides = []kamajiv1alpha1.DataStoreOverride{{Resource: "/events", DataStore: "main"}}
		tenant.Spec.Kubernetes.Version = "v1.36.3"
		tenant.Spec.ControlPlane.Service.ServiceType = kamajiv1alpha1.ServiceTypeClusterIP
		create(t, c, tenant)
		used(t, c, "main", 1)
		if err := c.Delete(t.Context(), etcdStore("main")); err != nil {
			t.Fatal(err)
		}
		touch(t, c, "main")
		used(t, c, "main", 1)
		if err := c.Delete(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
		err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			return apierrors.IsNotFound(c.Get(ctx, client.ObjectKey{Name: "main"}, &kamajiv1alpha1.DataStore{})), nil
		})
		if err != nil {
			t.Fatalf("the unused store is not let go: %v", err)
		}
	})
}

// touch makes the controller look at a DataStore.
func touch(t *testing.T, c client.Client, name string) {
	t.Helper()
	store := &kamajiv1alpha1.DataStore{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: name}, store); err != nil {
		t.Fatal(err)
	}
	after := store.DeepCopy()
	metav1.SetMetaDataAnnotation(&after.ObjectMeta, "touched", store.ResourceVersion)
	if err := c.Patch(t.Context(), after, client.MergeFrom(store)); err != nil {
		t.Fatal(err)
	}
}

// used waits until a DataStore lists n users.
func used(t *testing.T, c client.Client, name string, n int) {
	t.Helper()
	store := &kamajiv1alpha1.DataStore{}
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		err := c.Get(ctx, client.ObjectKey{Name: name}, store)
		return len(store.Status.UsedBy) == n, err
	})
	if err != nil {
		t.Fatalf("want %d users, have %v: %v", n, store.Status.UsedBy, err)
	}
}
