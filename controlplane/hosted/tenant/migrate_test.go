// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// moving is a tenant between two etcds, with a client that writes all the time
// and an informer that is never restarted.
type moving struct {
	*world
	second   *storagetest.Etcd
	schema   string
	customer kubernetes.Interface
	seen     cache.SharedIndexInformer

	// quiet ends the writer.
	quiet   func()
	mu      sync.Mutex
	written []string
	// attempts counts writes that have ended, accepted or not.
	attempts int
}

func TestMigration(t *testing.T) {
	m, life := &moving{world: start(t), second: storagetest.StartEtcd(t)}, t
	auth := map[string]string{kamajiv1alpha1.EnableEtcdAuthAnnotation: "true"}
	m.dataStore(t, "default", m.etcd.Config, auth)
	m.dataStore(t, "second", m.second.Config, auth)
	m.store(t, "default", true, phase.ReasonDone)
	m.store(t, "second", true, phase.ReasonDone)
	m.create(t, manifest(t, "customer1.yaml"))
	m.tenant(t, name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.RolloutInProgressReason)
	m.boot(t, life)
	m.schema = m.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone).Status.Storage.Setup.Schema
	m.age(t)
	m.use(t)

	t.Run("a target that is not empty", m.occupied)
	t.Run("pods that don't stop", m.stuckPods)
	t.Run("moves", func(t *testing.T) { m.moves(t, life) })
	t.Run("the clients go on", m.clientsGoOn)
	t.Run("the old copy takes no writes", m.oldCopy)
	m.quiet()
	t.Run("a second pass writes nothing", func(t *testing.T) { m.settled(t, name) })
	t.Run("deletion removes both", m.deletesBoth)
}

// boot runs the API server that the Deployment asks for, and reports its pods.
func (m *moving) boot(t, life *testing.T) {
	t.Helper()
	m.kubelet.run(life, m.client, m.deployment(t, name), m.address(t, name))
	if m.customer != nil {
		m.eventually(t, func(ctx context.Context) string {
			if out, err := m.customer.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
				return string(out) + err.Error()
			}
			return ""
		})
	}
	m.pods(t, name, 2)
}

// age takes the first etcd far ahead of the second, as one is that has been in use.
func (m *moving) age(t *testing.T) {
	admin := m.etcd.Client(t, m.etcd.Config.Certificate, m.etcd.Config.Key)
	for range 3000 {
		if _, err := admin.Put(t.Context(), "other-tenant", ""); err != nil {
			t.Fatal(err)
		}
	}
}

// use starts the informer and the writer, which end with the test.
func (m *moving) use(t *testing.T) {
	m.customer = kubernetes.NewForConfigOrDie(m.config(t, "super-admin.svc"))
	factory := informers.NewSharedInformerFactoryWithOptions(m.customer, 0, informers.WithNamespace("default"))
	m.seen = factory.Core().V1().ConfigMaps().Informer()
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	m.quiet = func() { cancel(); <-stopped }
	t.Cleanup(m.quiet)
	go func() {
		defer close(stopped)
		for i := 0; ctx.Err() == nil; i++ {
			m.write(ctx, fmt.Sprintf("w%06d", i))
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	m.eventually(t, func(context.Context) string {
		if n := len(m.acknowledged()); n < 20 {
			return fmt.Sprintf("%d writes", n)
		}
		return ""
	})
}

// config reaches the tenant's API server with one of the admin kubeconfigs.
func (w *world) config(t *testing.T, kubeconfig string) *rest.Config {
	t.Helper()
	config, err := clientcmd.RESTConfigFromKubeConfig(w.secret(t, name+"-admin-kubeconfig").Data[kubeconfig])
	if err != nil {
		t.Fatal(err)
	}
	address := w.address(t, name)
	config.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return w.kubelet.dial(ctx, network, address)
	}
	config.QPS = -1
	return config
}

func (m *moving) write(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := m.customer.CoreV1().ConfigMaps("default").Create(ctx, object, metav1.CreateOptions{})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attempts++
	if err == nil {
		m.written = append(m.written, name)
	}
}

// attempt waits until the writer has ended another attempt, whatever came of it: the one, if any, that it has begun before now.
func (m *moving) attempt(t *testing.T) {
	t.Helper()
	count := func() int {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.attempts
	}
	before := count()
	m.eventually(t, func(context.Context) string {
		if count() == before {
			return "the writer has stopped"
		}
		return ""
	})
}

// acknowledged are the names of what the API has accepted.
func (m *moving) acknowledged() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.written)
}

// writes waits for one that is accepted after now.
func (m *moving) writes(t *testing.T) {
	t.Helper()
	before := len(m.acknowledged())
	m.eventually(t, func(context.Context) string {
		if len(m.acknowledged()) == before {
			return "nothing is written"
		}
		return ""
	})
}

func (m *moving) move(t *testing.T, to string, annotations map[string]string) {
	t.Helper()
	tn := &kamajiv1alpha1.TenantControlPlane{}
	if err := m.client.Get(t.Context(), key, tn); err != nil {
		t.Fatal(err)
	}
	after := tn.DeepCopy()
	after.Spec.DataStore, after.Annotations = to, annotations
	if err := m.client.Patch(t.Context(), after, client.MergeFrom(tn)); err != nil {
		t.Fatal(err)
	}
}

// occupied finds data that nobody has permitted to delete.
func (m *moving) occupied(t *testing.T) {
	admin := m.second.Client(t, m.second.Config.Certificate, m.second.Config.Key)
	if _, err := admin.Put(t.Context(), "/"+m.schema+"/precious", "1"); err != nil {
		t.Fatal(err)
	}
	m.move(t, "second", nil)
	m.tenant(t, name, kamajiv1alpha1.MigratingCondition, metav1.ConditionFalse, "MigrationFailed")
	m.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	m.writes(t)
	if n := m.second.Keys("/" + m.schema + "/"); n != 1 {
		t.Errorf("%d keys are in the target, the one that was there and no other should be", n)
	}
	m.move(t, "default", nil)
	m.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
}

// stuckPods gives up after the time that an annotation allows, and returns.
func (m *moving) stuckPods(t *testing.T) {
	m.move(t, "second", map[string]string{
		kamajiv1alpha1.MigrationTimeoutAnnotation: "2s", kamajiv1alpha1.CleanupPriorMigrationAnnotation: "true",
	})
	tn := m.tenant(t, name, kamajiv1alpha1.MigratingCondition, metav1.ConditionFalse, "MigrationTimedOut")
	if tn.Status.Storage.DataStoreName != "default" {
		t.Errorf("the data is said to be in %s", tn.Status.Storage.DataStoreName)
	}
	m.writes(t)
	m.collect(t, name)
	m.eventually(t, func(ctx context.Context) string { return m.deployed(ctx, m.etcd) })
	m.pods(t, name, 2)
	m.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	m.move(t, "default", nil)
}

// deployed says whether a Deployment of the store is there.
func (m *moving) deployed(ctx context.Context, store *storagetest.Etcd) string {
	for _, arg := range m.args(ctx, name) {
		if strings.HasPrefix(arg, "--etcd-servers=") && strings.Contains(arg, store.Config.Endpoints[0]) {
			return ""
		}
	}
	return "there is no Deployment for " + store.Config.Endpoints[0]
}

func (m *moving) moves(t, life *testing.T) {
	m.move(t, "second", map[string]string{
		kamajiv1alpha1.CleanupPriorMigrationAnnotation: "true", kamajiv1alpha1.MigrationMinimumFreezeAnnotation: "1s",
	})
	tn := m.tenant(t, name, kamajiv1alpha1.MigratingCondition, metav1.ConditionTrue, kamajiv1alpha1.StoppingPodsReason)
	if *tn.Status.Kubernetes.Version.Status != kamajiv1alpha1.PhaseMigrating {
		t.Errorf("phase %s", *tn.Status.Kubernetes.Version.Status)
	}
	m.frozen(t)
	m.kubelet.stop(t, name, m.address(t, name))
	m.collect(t, name)
	m.eventually(t, func(ctx context.Context) string { return m.deployed(ctx, m.second) })
	m.boot(t, life)
	m.tenant(t, name, kamajiv1alpha1.MigratingCondition, metav1.ConditionFalse, kamajiv1alpha1.MigratedReason)
	tn = m.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	if tn.Status.Storage.DataStoreName != "second" || *tn.Status.Kubernetes.Version.Status != kamajiv1alpha1.PhaseReady {
		t.Errorf("storage %+v, phase %s", tn.Status.Storage, *tn.Status.Kubernetes.Version.Status)
	}
}

// frozen is the state in which nobody can write, not even with all rights and in
// kube-system, and everybody can read.
func (m *moving) frozen(t *testing.T) {
	m.attempt(t)
	before := len(m.acknowledged())
	for _, namespace := range []string{"default", "kube-system"} {
		_, err := m.customer.CoreV1().ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "frozen"}}, metav1.CreateOptions{})
		if err == nil || apierrors.IsAlreadyExists(err) {
			t.Errorf("a write in %s: %v", namespace, err)
		}
		if _, err := m.customer.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{}); err != nil {
			t.Errorf("reading in %s: %v", namespace, err)
		}
	}
	m.attempt(t)
	if after := len(m.acknowledged()); after != before {
		t.Errorf("%d writes were accepted", after-before)
	}
}

// clientsGoOn needs no restart of anything: neither of the writer nor of the informer.
func (m *moving) clientsGoOn(t *testing.T) {
	m.writes(t)
	accepted := m.acknowledged()
	list, err := m.customer.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for i := range list.Items {
		have[list.Items[i].Name] = true
	}
	lost := 0
	for _, name := range accepted {
		if !have[name] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d writes that were accepted are lost", lost)
	}
	if _, err := m.customer.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "after"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	m.eventually(t, func(context.Context) string {
		if _, ok, _ := m.seen.GetStore().GetByKey("default/after"); !ok {
			return fmt.Sprintf("the informer is silent since resource version %s", m.seen.LastSyncResourceVersion())
		}
		return ""
	})
	if err := m.customer.CoreV1().ConfigMaps("default").Delete(t.Context(), "after", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	m.eventually(t, func(context.Context) string {
		if _, ok, _ := m.seen.GetStore().GetByKey("default/after"); ok {
			return "the informer has not heard of a deletion"
		}
		return ""
	})
}

func (m *moving) oldCopy(t *testing.T) {
	admin := m.etcd.Client(t, m.etcd.Config.Certificate, m.etcd.Config.Key)
	role, err := admin.RoleGet(t.Context(), m.schema)
	if err != nil || len(role.Perm) != 1 || role.Perm[0].PermType != clientv3.PermRead {
		t.Errorf("role %v, %v", role, err)
	}
	if n := m.etcd.Keys("/" + m.schema + "/"); n < 50 {
		t.Errorf("the old copy has %d keys", n)
	}
}

func (m *moving) deletesBoth(t *testing.T) {
	tn := m.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	address := m.address(t, name)
	if err := m.client.Delete(t.Context(), tn); err != nil {
		t.Fatal(err)
	}
	m.kubelet.stop(t, name, address)
	m.collect(t, name)
	m.gone(t, tn)
	for store, etcd := range map[string]*storagetest.Etcd{"default": m.etcd, "second": m.second} {
		if n := etcd.Keys("/" + m.schema + "/"); n != 0 {
			t.Errorf("%d keys are left in %s", n, store)
		}
	}
}

// args are those of the API server in a Deployment, none without one.
func (w *world) args(ctx context.Context, name string) []string {
	d := &appsv1.Deployment{}
	if err := w.client.Get(ctx, types.NamespacedName{Namespace: system, Name: name}, d); err != nil || !d.DeletionTimestamp.IsZero() {
		return nil
	}
	for _, c := range d.Spec.Template.Spec.Containers {
		if c.Name == "kube-apiserver" {
			return c.Args
		}
	}
	return nil
}
