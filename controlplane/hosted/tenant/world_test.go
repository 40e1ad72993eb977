// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/datastore"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/remote"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/etcd"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/nats"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/postgres"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/tenant"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// system is the namespace of everything in these tests.
const system = "kamaji-system"

// patience is the longest that the world may take to become as expected. It is
// generous: on a busy machine an API server alone needs a quarter of it.
const patience = time.Minute

// world is a management API server with the engine's controllers, an etcd for
// tenants, and something that runs tenants' API servers.
type world struct {
	client  client.Client
	etcd    *storagetest.Etcd
	kubelet *kubelet
	manager manager.Manager
	stores  *storage.Pool
	// starts is how many tenants may start at once.
	starts atomic.Int32
	// byCPU is how many could by the processors of the nodes.
	byCPU func() int
	// closed are the networks of this cluster.
	closed func(context.Context) ([]netip.Prefix, error)
}

func start(t *testing.T) *world {
	t.Helper()
	ctrl.SetLogger(klog.Background())
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, kamajiv1alpha1.AddToScheme, gatewayv1.Install} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	config, c := testenv.Start(t, scheme, "config/controlplane/crd/bases/kamaji.clastix.io_tenantcontrolplanes.yaml",
		"config/controlplane/crd/bases/kamaji.clastix.io_datastores.yaml")
	w := &world{client: c, etcd: storagetest.StartEtcd(t), kubelet: &kubelet{ports: map[string]string{}, processes: map[string]*exec.Cmd{}}}
	// The reconcilers have the rights of an installed manager.
	config = testenv.Manager(t, config, c, "config/controlplane/rbac/role.yaml")
	config.QPS = -1
	// As in the real manager, the cache only sees what carries our label.
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{kamajiv1alpha1.ProjectLabel: kamajiv1alpha1.ProjectLabelValue})}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Metrics: server.Options{BindAddress: "0"},
		// Each test has a world of its own.
		Controller: ctrlconfig.Controller{SkipNameValidation: ptr.To(true)},
		Cache:      cache.Options{ByObject: map[client.Object]cache.ByObject{&corev1.Secret{}: ours, &corev1.Service{}: ours, &networkingv1.Ingress{}: ours, &networkingv1.NetworkPolicy{}: ours, &corev1.Pod{}: ours, &corev1.ConfigMap{}: ours}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.manager = mgr
	w.starts.Store(100)
	w.stores = storage.NewPool(storage.Openers{etcd.Name: etcd.Open, postgres.Name: postgres.Open, nats.Name: nats.Open})
	ctx, cancel := context.WithCancel(context.Background())
	if err := storage.IndexUsers(ctx, mgr.GetFieldIndexer(), ""); err != nil {
		t.Fatal(err)
	}
	if w.byCPU, err = tenant.StartsByCPU(ctx, mgr.GetCache()); err != nil {
		t.Fatal(err)
	}
	if w.closed, err = tenant.ManagementNetworks(ctx, mgr.GetCache(), mgr.GetAPIReader()); err != nil {
		t.Fatal(err)
	}
	stores := &datastore.Reconciler{Client: mgr.GetClient(), Secrets: mgr.GetAPIReader(), Pool: w.stores, Recorder: mgr.GetEventRecorder("test")}
	if err := stores.SetupWithManager(ctx, mgr, ""); err != nil {
		t.Fatal(err)
	}
	if err := w.engine().SetupWithManager(ctx, mgr); err != nil {
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
	return w
}

// engine is a tenant reconciler without any memory, as after a restart.
func (w *world) engine() *tenant.Reconciler {
	return &tenant.Reconciler{
		Client: w.manager.GetClient(), Live: w.manager.GetAPIReader(), Secrets: w.manager.GetAPIReader(),
		Storage: w.stores, Remote: &remote.Pool{Dial: w.kubelet.dial}, Recorder: w.manager.GetEventRecorder("test"),
		Starts:   func() int { return int(w.starts.Load()) },
		Policies: &tenant.Policies{Closed: w.closed, Nodes: true},
	}
}

func (w *world) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := w.client.Create(t.Context(), o); err != nil {
			t.Fatalf("creating %T %s: %v", o, o.GetName(), err)
		}
	}
}

// dataStore makes a DataStore for the etcd, with its Secrets.
func (w *world) dataStore(t *testing.T, name string, config storage.Config, annotations map[string]string) {
	t.Helper()
	ref := func(secret, key string) kamajiv1alpha1.ContentRef {
		return kamajiv1alpha1.ContentRef{SecretRef: &kamajiv1alpha1.SecretReference{Namespace: system, Name: secret, KeyPath: key}}
	}
	secret := func(name string, certificate, key []byte) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name}, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{"tls.crt": certificate, "tls.key": key},
		}
	}
	caKey := ref(name+"-ca", "tls.key")
	w.create(t, secret(name+"-ca", config.CA, config.CAKey), secret(name+"-root", config.Certificate, config.Key),
		&kamajiv1alpha1.DataStore{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations},
			Spec: kamajiv1alpha1.DataStoreSpec{
				Driver: kamajiv1alpha1.DriverEtcd, Endpoints: config.Endpoints,
				TLSConfig: &kamajiv1alpha1.TLSConfig{
					CertificateAuthority: kamajiv1alpha1.CertKeyPair{Certificate: ref(name+"-ca", "tls.crt"), PrivateKey: &caKey},
					ClientCertificate:    &kamajiv1alpha1.ClientCertificate{Certificate: ref(name+"-root", "tls.crt"), PrivateKey: ref(name+"-root", "tls.key")},
				},
			},
		})
}

// manifest reads a TenantControlPlane from testdata.
func manifest(t *testing.T, file string) *kamajiv1alpha1.TenantControlPlane {
	t.Helper()
	content, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	out := &kamajiv1alpha1.TenantControlPlane{}
	if err := yaml.UnmarshalStrict(content, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// eventually waits until the world is as wanted. check returns what is wrong.
func (w *world) eventually(t *testing.T, check func(context.Context) string) {
	t.Helper()
	wrong := ""
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		now := check(ctx)
		if ctx.Err() == nil && !strings.Contains(now, "rate limiter") {
			wrong = now
		}
		return now == "", nil
	})
	if err != nil {
		t.Fatalf("after %s: %s", patience, wrong)
	}
}

// tenant waits for the TenantControlPlane to have a condition with a reason, after a look at the present spec.
func (w *world) tenant(t *testing.T, name, condition string, status metav1.ConditionStatus, reason string) *kamajiv1alpha1.TenantControlPlane {
	t.Helper()
	out := &kamajiv1alpha1.TenantControlPlane{}
	w.eventually(t, func(ctx context.Context) string {
		if err := w.client.Get(ctx, types.NamespacedName{Namespace: system, Name: name}, out); err != nil {
			return err.Error()
		}
		c := meta.FindStatusCondition(out.Status.Conditions, condition)
		if c == nil || c.Status != status || c.Reason != reason || c.ObservedGeneration != out.Generation {
			text, _ := yaml.Marshal(out.Status.Conditions)
			return "want " + condition + "=" + string(status) + " " + reason + ", have\n" + string(text)
		}
		return ""
	})
	return out
}

// deployment returns the Deployment of a tenant.
func (w *world) deployment(t *testing.T, name string) *appsv1.Deployment {
	t.Helper()
	out := &appsv1.Deployment{}
	if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: system, Name: name}, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// pods does what the Deployment controller would report once pods run.
func (w *world) pods(t *testing.T, name string, ready int32) {
	t.Helper()
	w.eventually(t, func(ctx context.Context) string {
		d := w.deployment(t, name)
		d.Status = appsv1.DeploymentStatus{
			ObservedGeneration: d.Generation, Replicas: *d.Spec.Replicas, UpdatedReplicas: *d.Spec.Replicas,
			ReadyReplicas: ready, AvailableReplicas: ready,
		}
		// The engine may write at the same moment.
		if err := w.client.Status().Update(ctx, d); err != nil {
			return err.Error()
		}
		return ""
	})
}

// serve is pods for as long as the tenant is not Ready: on a busy machine a change
// may be rolled out a moment later than the one that was waited for.
func (w *world) serve(t *testing.T, name string, ready int32) {
	t.Helper()
	w.eventually(t, func(ctx context.Context) string {
		tn := &kamajiv1alpha1.TenantControlPlane{}
		if err := w.client.Get(ctx, types.NamespacedName{Namespace: system, Name: name}, tn); err != nil {
			return err.Error()
		}
		d := w.deployment(t, name)
		if meta.IsStatusConditionTrue(tn.Status.Conditions, phase.Ready) && d.Status.ObservedGeneration == d.Generation {
			return ""
		}
		if d.Status.ObservedGeneration != d.Generation {
			w.pods(t, name, ready)
		}
		text, _ := yaml.Marshal(tn.Status.Conditions)
		return "not Ready:\n" + string(text)
	})
}

// collect does what the garbage collector does for a Deployment that is deleted
// in the foreground: it lets go of it when its pods are gone.
func (w *world) collect(t *testing.T, name string) {
	t.Helper()
	w.eventually(t, func(ctx context.Context) string {
		d := &appsv1.Deployment{}
		if err := w.client.Get(ctx, types.NamespacedName{Namespace: system, Name: name}, d); err != nil {
			return err.Error()
		}
		if d.DeletionTimestamp.IsZero() {
			return "the Deployment is not being deleted"
		}
		d.Finalizers = nil
		if err := w.client.Update(ctx, d); err != nil {
			return err.Error()
		}
		return ""
	})
}
