// SPDX-License-Identifier: Apache-2.0

//go:build scale

// Package scale measures the engine with a thousand tenants: real management API server, real etcd for the tenants,
// the engine in a process of its own; pods and the tenants' API servers are simulated, because a thousand of them don't
// fit on a machine. `make bench-scale` runs it. One line per figure, as in test/bench.
package scale

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

const (
	namespace = "tenants"
	// creators is how many clients create tenants at the same time.
	creators = 10
	// idleFor is how long the settled engine is watched, twice: before any tenant is checked again, and when the checks have
	// begun, which come evenly from then on.
	idleFor = time.Minute
	// checksAfter the first tenant they have. The engine's resyncEvery is ten minutes.
	checksAfter = 11 * time.Minute
	// bootTime is how long pods take to be ready, less than real ones do.
	bootTime = time.Second
	// starts is how many of them may boot at once: those of sixteen processors.
	starts = 64
	// gatewayName is the KamajiGateway of all tenants.
	gatewayName = "default"
	// dataStoreName is their DataStore.
	dataStoreName = "default"
)

// sizes at which the engine is measured; equal cost per tenant at all of them means that nothing is quadratic.
var sizes = []int{100, 300, 1000}

// chosen are the sizes, or those that SCALE_SIZES lists, separated by commas and ascending.
func chosen(t *testing.T) []int {
	list := os.Getenv("SCALE_SIZES")
	if list == "" {
		return sizes
	}
	var out []int
	for field := range strings.SplitSeq(list, ",") {
		size, err := strconv.Atoi(field)
		if err != nil {
			t.Fatalf("SCALE_SIZES=%q: %v", list, err)
		}
		out = append(out, size)
	}
	return out
}

func TestScale(t *testing.T) {
	ctrl.SetLogger(klog.Background())
	w := start(t)
	before, first := w.usage(t), time.Now()
	for _, size := range chosen(t) {
		since := before.tenants
		began := time.Now()
		w.create(t, since, size)
		w.settle(t, size)
		took := time.Since(began).Seconds()
		now := w.usage(t)
		now.tenants = size
		w.report(size, took, before, now)
		w.profile(t, size)
		before = now
	}
	w.quiet(t)
	w.idle(t, "idle")
	time.Sleep(time.Until(first.Add(checksAfter)))
	w.idle(t, "checks")
}

// world is everything around the engine.
type world struct {
	client client.Client
	cache  cache.Cache
	apis   *apis
	engine *exec.Cmd
	admin  *rest.Config
	env    *envtest.Environment

	metrics, profiles string
}

func start(t *testing.T) *world {
	env := &envtest.Environment{BinaryAssetsDirectory: testenv.Assets(), Scheme: newScheme(), ErrorIfCRDPathMissing: true}
	for _, kind := range []string{
		"kamaji.clastix.io_tenantcontrolplanes", "kamaji.clastix.io_datastores", "kamaji.clastix.io_kubeconfiggenerators",
		"controlplane.cluster.x-k8s.io_kamajigateways", "controlplane.cluster.x-k8s.io_gatewayportleases",
	} {
		env.CRDDirectoryPaths = append(env.CRDDirectoryPaths, filepath.Join(testenv.Root(), "config/controlplane/crd/bases", kind+".yaml"))
	}
	env.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.0.0.0/16")
	config, err := env.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = env.Stop() })
	config.QPS, config.Burst = -1, 0
	w := &world{admin: config, env: env, metrics: freeAddress(t), profiles: freeAddress(t)}
	if w.client, err = client.New(config, client.Options{Scheme: newScheme()}); err != nil {
		t.Fatal(err)
	}
	w.follow(t)
	if err := w.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	w.dataStore(t)
	w.gateway(t)
	if w.apis, err = serve(t.Context(), w.cache); err != nil {
		t.Fatal(err)
	}
	w.run(t)
	return w
}

// follow keeps what the simulations look up, and plays the controllers and kubelets that run Deployments.
func (w *world) follow(t *testing.T) {
	var err error
	if w.cache, err = cache.New(w.admin, cache.Options{Scheme: newScheme()}); err != nil {
		t.Fatal(err)
	}
	if err := w.cache.IndexField(t.Context(), &corev1.Service{}, "spec.clusterIP", func(o client.Object) []string {
		return []string{o.(*corev1.Service).Spec.ClusterIP}
	}); err != nil {
		t.Fatal(err)
	}
	for _, o := range []client.Object{&corev1.Secret{}, &kamajiv1alpha1.TenantControlPlane{}} {
		if _, err := w.cache.GetInformer(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	deployments, err := w.cache.GetInformer(t.Context(), &appsv1.Deployment{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = deployments.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { w.boot(t, o.(*appsv1.Deployment)) },
		UpdateFunc: func(_, o any) { w.boot(t, o.(*appsv1.Deployment)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = w.cache.Start(t.Context()) }()
	if !w.cache.WaitForCacheSync(t.Context()) {
		t.Fatal("the cache doesn't sync")
	}
}

// boot takes a Deployment one step on, as its controller reports it: seen, pods made, pods ready.
func (w *world) boot(t *testing.T, d *appsv1.Deployment) {
	replicas := ptr.Deref(d.Spec.Replicas, 1)
	condition := func(kind appsv1.DeploymentConditionType, status corev1.ConditionStatus) appsv1.DeploymentCondition {
		return appsv1.DeploymentCondition{Type: kind, Status: status}
	}
	next := appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Conditions: []appsv1.DeploymentCondition{condition(appsv1.DeploymentProgressing, corev1.ConditionTrue)}}
	pause := time.Duration(0)
	switch {
	case d.Status.ObservedGeneration != d.Generation:
	case d.Status.UpdatedReplicas != replicas:
		next.Replicas, next.UpdatedReplicas, next.UnavailableReplicas = replicas, replicas, replicas
		next.Conditions = append(next.Conditions, condition(appsv1.DeploymentAvailable, corev1.ConditionFalse))
	case d.Status.ReadyReplicas != replicas:
		next.Replicas, next.UpdatedReplicas, next.ReadyReplicas, next.AvailableReplicas = replicas, replicas, replicas, replicas
		next.Conditions = append(next.Conditions, condition(appsv1.DeploymentAvailable, corev1.ConditionTrue))
		pause = bootTime
	default:
		return
	}
	d = d.DeepCopy()
	d.Status = next
	time.AfterFunc(pause, func() {
		if err := w.client.Status().Update(t.Context(), d); err != nil && t.Context().Err() == nil {
			t.Logf("playing the kubelet of %s: %v", d.Name, err)
		}
	})
}

// dataStore is a real etcd.
func (w *world) dataStore(t *testing.T) {
	config := storagetest.StartEtcd(t).Config
	secret := func(name string, certificate, key []byte) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{"tls.crt": certificate, "tls.key": key}}
	}
	ref := func(secret, key string) kamajiv1alpha1.ContentRef {
		return kamajiv1alpha1.ContentRef{SecretRef: &kamajiv1alpha1.SecretReference{Namespace: namespace, Name: secret, KeyPath: key}}
	}
	caKey := ref("etcd-ca", "tls.key")
	for _, o := range []client.Object{
		secret("etcd-ca", config.CA, config.CAKey), secret("etcd-root", config.Certificate, config.Key),
		&kamajiv1alpha1.DataStore{
			ObjectMeta: metav1.ObjectMeta{Name: dataStoreName, Annotations: map[string]string{kamajiv1alpha1.EnableEtcdAuthAnnotation: "true"}},
			Spec: kamajiv1alpha1.DataStoreSpec{Driver: kamajiv1alpha1.DriverEtcd, Endpoints: config.Endpoints, TLSConfig: &kamajiv1alpha1.TLSConfig{
				CertificateAuthority: kamajiv1alpha1.CertKeyPair{Certificate: ref("etcd-ca", "tls.crt"), PrivateKey: &caKey},
				ClientCertificate:    &kamajiv1alpha1.ClientCertificate{Certificate: ref("etcd-root", "tls.crt"), PrivateKey: ref("etcd-root", "tls.key")},
			}},
		},
	} {
		if err := w.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// gateway is one whose data plane is elsewhere.
func (w *world) gateway(t *testing.T) {
	g := &controlplanev1.KamajiGateway{ObjectMeta: metav1.ObjectMeta{Name: gatewayName}, Spec: controlplanev1.KamajiGatewaySpec{
		Domain: "k8s.example.com", PublicAddress: "203.0.113.10", PrivateAddress: "10.1.0.5",
		DataPlane: controlplanev1.GatewayDataPlane{Placement: controlplanev1.PlacementExternal},
	}}
	if err := w.client.Create(t.Context(), g); err != nil {
		t.Fatal(err)
	}
}

// run starts the engine.
func (w *world) run(t *testing.T) {
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: "https://" + w.admin.Host, CertificateAuthorityData: w.admin.CAData}
	if strings.HasPrefix(w.admin.Host, "https://") {
		config.Clusters["c"].Server = w.admin.Host
	}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{ClientCertificateData: w.admin.CertData, ClientKeyData: w.admin.KeyData}
	config.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "c"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.engine = exec.CommandContext(t.Context(), self)
	w.engine.Env = append(os.Environ(), engineKubeconfig+"="+file, engineTenants+"="+w.apis.address, engineMetrics+"="+w.metrics, engineProfiles+"="+w.profiles, "GOGC=50")
	log, err := os.Create(filepath.Join(os.TempDir(), "kamaji-scale-engine.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	w.engine.Stdout, w.engine.Stderr = log, log
	w.engine.Cancel = func() error { return w.engine.Process.Signal(os.Interrupt) }
	if err := w.engine.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.engine.Wait() })
	w.until(t, "the DataStore to be Ready", func() error {
		store := &kamajiv1alpha1.DataStore{}
		if err := w.client.Get(t.Context(), client.ObjectKey{Name: dataStoreName}, store); err != nil {
			return err
		}
		if !store.Status.Ready {
			return fmt.Errorf("it isn't: %v", store.Status.Conditions)
		}
		return nil
	})
}

// create makes the tenants with numbers from (inclusive) to (exclusive).
func (w *world) create(t *testing.T, from, to int) {
	numbers := make(chan int)
	var group sync.WaitGroup
	for range creators {
		group.Go(func() {
			for i := range numbers {
				tenant := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("tenant-%04d", i)}}
				tenant.Spec.DataStore = dataStoreName
				tenant.Spec.Kubernetes.Version = "v1.36.3"
				tenant.Spec.ControlPlane.Deployment.Replicas = ptr.To[int32](1)
				tenant.Spec.ControlPlane.Service.ServiceType = kamajiv1alpha1.ServiceTypeClusterIP
				tenant.Spec.ControlPlane.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{Name: gatewayName}
				tenant.Spec.Addons.CoreDNS, tenant.Spec.Addons.KubeProxy = &kamajiv1alpha1.AddonSpec{}, &kamajiv1alpha1.AddonSpec{}
				tenant.Spec.Addons.Konnectivity = &kamajiv1alpha1.KonnectivitySpec{
					KonnectivityServerSpec: kamajiv1alpha1.KonnectivityServerSpec{Port: kamajiv1alpha1.DefaultKonnectivityPort},
				}
				if err := w.client.Create(t.Context(), tenant); err != nil {
					t.Errorf("creating tenant %d: %v", i, err)
				}
			}
		})
	}
	for i := from; i < to; i++ {
		numbers <- i
	}
	close(numbers)
	group.Wait()
}

// settle waits until all tenants are Ready.
func (w *world) settle(t *testing.T, count int) {
	w.until(t, fmt.Sprintf("%d tenants to be Ready", count), func() error {
		tenants := &kamajiv1alpha1.TenantControlPlaneList{}
		if err := w.cache.List(t.Context(), tenants, client.UnsafeDisableDeepCopy); err != nil {
			return err
		}
		ready, waiting := 0, ""
		for i := range tenants.Items {
			conditions := tenants.Items[i].Status.Conditions
			if meta.IsStatusConditionTrue(conditions, phase.Ready) {
				ready++
			} else if c := meta.FindStatusCondition(conditions, phase.Ready); c != nil {
				waiting = tenants.Items[i].Name + ": " + c.Message
			}
		}
		if ready < count {
			return fmt.Errorf("%d are; %s", ready, waiting)
		}
		return nil
	})
}

func (w *world) until(t *testing.T, what string, look func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Hour)
	for {
		err := look()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || t.Context().Err() != nil {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
