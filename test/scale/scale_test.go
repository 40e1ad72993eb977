// SPDX-License-Identifier: Apache-2.0

//go:build scale

// Package scale measures the engine with a thousand tenants: real management API server, real etcd for the tenants,
// the engine in a process of its own; pods and the tenants' API servers are simulated, because a thousand of them don't
// fit on a machine. `make bench-scale` runs it. One line per figure, as in test/bench.
package scale

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
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
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/samples"
)

const (
	namespace = "tenants"
	// creators is how many clients create tenants at the same time.
	creators = 10
	// idleFor is how long the settled engine is watched.
	idleFor = time.Minute
)

// sizes at which the engine is measured; equal cost per tenant at all of them means that nothing is quadratic.
var sizes = []int{100, 300, 1000}

func TestScale(t *testing.T) {
	ctrl.SetLogger(klog.Background())
	w := start(t)
	before := w.usage(t)
	for _, size := range sizes {
		since := before.tenants
		began := time.Now()
		w.create(t, since, size)
		w.settle(t, size)
		took := time.Since(began).Seconds()
		now := w.usage(t)
		now.tenants = size
		w.report(size, took, before, now)
		before = now
	}
	w.idle(t, before)
}

// world is everything around the engine.
type world struct {
	client client.Client
	cache  cache.Cache
	apis   *apis
	engine *exec.Cmd
	admin  *rest.Config
	env    *envtest.Environment

	metrics string
}

func start(t *testing.T) *world {
	env := &envtest.Environment{BinaryAssetsDirectory: testenv.Assets(), Scheme: newScheme(), ErrorIfCRDPathMissing: true}
	for _, kind := range []string{"tenantcontrolplanes", "datastores"} {
		env.CRDDirectoryPaths = append(env.CRDDirectoryPaths, filepath.Join(testenv.Root(), "config/controlplane/crd/bases/kamaji.clastix.io_"+kind+".yaml"))
	}
	env.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.0.0.0/16")
	config, err := env.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = env.Stop() })
	config.QPS, config.Burst = -1, 0
	w := &world{admin: config, env: env, metrics: freeAddress(t)}
	if w.client, err = client.New(config, client.Options{Scheme: newScheme()}); err != nil {
		t.Fatal(err)
	}
	w.follow(t)
	if err := w.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	w.dataStore(t)
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

// boot makes all replicas of a Deployment ready at once.
func (w *world) boot(t *testing.T, d *appsv1.Deployment) {
	replicas := ptr.Deref(d.Spec.Replicas, 1)
	if d.Status.ObservedGeneration == d.Generation && d.Status.ReadyReplicas == replicas {
		return
	}
	d = d.DeepCopy()
	d.Status = appsv1.DeploymentStatus{
		ObservedGeneration: d.Generation, Replicas: replicas, UpdatedReplicas: replicas, ReadyReplicas: replicas, AvailableReplicas: replicas,
		Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue}},
	}
	if err := w.client.Status().Update(t.Context(), d); err != nil && t.Context().Err() == nil {
		t.Logf("playing the kubelet of %s: %v", d.Name, err)
	}
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
			ObjectMeta: metav1.ObjectMeta{Name: "default", Annotations: map[string]string{kamajiv1alpha1.EnableEtcdAuthAnnotation: "true"}},
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
	w.engine.Env = append(os.Environ(), engineKubeconfig+"="+file, engineTenants+"="+w.apis.address, engineMetrics+"="+w.metrics)
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
	w.until(t, "the engine to serve metrics", func() error { _, err := w.scrape(t.Context()); return err })
}

// create makes the tenants with numbers from (inclusive) to (exclusive).
func (w *world) create(t *testing.T, from, to int) {
	numbers := make(chan int)
	var group sync.WaitGroup
	for range creators {
		group.Go(func() {
			for i := range numbers {
				tenant := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("tenant-%04d", i)}}
				tenant.Spec.DataStore = "default"
				tenant.Spec.Kubernetes.Version = "v1.36.3"
				tenant.Spec.ControlPlane.Deployment.Replicas = ptr.To[int32](1)
				tenant.Spec.ControlPlane.Service.ServiceType = kamajiv1alpha1.ServiceTypeClusterIP
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
	deadline := time.Now().Add(20 * time.Minute)
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

// usage is what has been used up to now.
type usage struct {
	tenants                 int
	engine, server, etcd    float64 // seconds of CPU
	writes, dataStoreWrites float64
	resident                float64 // MiB
}

func (w *world) usage(t *testing.T) usage {
	text, err := w.scrape(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	direct, err := rest.HTTPClientFor(w.admin)
	if err != nil {
		t.Fatal(err)
	}
	response, err := direct.Get(strings.TrimSuffix("https://"+strings.TrimPrefix(w.admin.Host, "https://"), "/") + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	server, err := read(response)
	if err != nil {
		t.Fatal(err)
	}
	u := usage{
		engine: samples.Sum(text, "process_cpu_seconds_total"), resident: samples.Sum(text, "process_resident_memory_bytes") / (1 << 20),
		server: samples.Sum(server, "process_cpu_seconds_total"), etcd: children(t, "etcd"),
	}
	// Requests to tenants have another host.
	host := strings.Trim(strings.TrimPrefix(w.admin.Host, "https://"), "/")
	for _, method := range []string{"POST", "PATCH", "PUT", "DELETE"} {
		u.writes += samples.Sum(text, "rest_client_requests_total", fmt.Sprintf("host=%q", host), fmt.Sprintf("method=%q", method))
	}
	for _, verb := range []string{"APPLY", "PATCH", "PUT"} {
		u.dataStoreWrites += samples.Sum(server, "apiserver_request_total", `resource="datastores"`, fmt.Sprintf("verb=%q", verb))
	}
	return u
}

func (w *world) report(size int, took float64, before, now usage) {
	added := float64(now.tenants - before.tenants)
	engine, server := (now.engine-before.engine)/added, (now.server-before.server)/added
	bench := func(name string, value float64, unit, peer string, peerValue float64, goal string, limit float64) {
		verdict, ratio := "ok", "-"
		if value > limit {
			verdict = "short"
		}
		if peerValue > 0 {
			ratio = fmt.Sprintf("%.2f", value/peerValue)
		}
		fmt.Printf("BENCH scale-%d-%s %.3f %s %s %.3f %s %s %s\n", size, name, value, unit, peer, peerValue, ratio, goal, verdict)
	}
	bench("converge", took/added, "s/tenant", "-", 0, "-", took)
	bench("manager-cpu", engine, "s/tenant", "kamaji", 3.66, "<=0.3s", 0.3)
	bench("apiserver-cpu", server, "s/tenant", "manager-cpu", engine, "-", server)
	bench("etcd-cpu", (now.etcd-before.etcd)/added, "s/tenant", "manager-cpu", engine, "-", now.etcd)
	bench("writes", (now.writes-before.writes)/added, "writes/tenant", "kamaji", 123, "<=30", 30)
	bench("datastore-writes", (now.dataStoreWrites-before.dataStoreWrites)/added, "writes/tenant", "kamaji", 27, "<=1", 1)
	bench("manager-rss", now.resident, "MiB", "-", 0, "<=500MiB-at-1000", 500)
}

// idle watches the settled engine.
func (w *world) idle(t *testing.T, before usage) {
	// Until the last events have been looked at.
	w.until(t, "the engine to be quiet", func() error {
		first := w.usage(t)
		time.Sleep(5 * time.Second)
		if second := w.usage(t); second.writes > first.writes+5 {
			return fmt.Errorf("%.0f writes in 5 s", second.writes-first.writes)
		}
		return nil
	})
	from := w.usage(t)
	time.Sleep(idleFor)
	to := w.usage(t)
	// The leader's Lease isn't taken here, so there is nothing to subtract.
	fmt.Printf("BENCH scale-idle-writes %.0f writes/min - 0 - 0 %s\n", to.writes-from.writes, verdict(to.writes == from.writes))
	share := (to.engine - from.engine) / idleFor.Seconds() * 100
	fmt.Printf("BENCH scale-idle-cpu %.2f %%-of-a-core - 0 - <1%% %s\n", share, verdict(share < 1))
	fmt.Printf("BENCH scale-idle-rss %.0f MiB - 0 - <=500MiB %s\n", to.resident, verdict(to.resident <= 500))
}

func verdict(ok bool) string {
	if ok {
		return "ok"
	}
	return "short"
}

func (w *world) scrape(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "curl", "-sf", "http://"+w.metrics+"/metrics").Output()
	return string(output), err
}

// children is the CPU time, in seconds, of this process's children of that name.
func children(t *testing.T, name string) float64 {
	folders, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, file := range folders {
		content, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(content), "("+name+")") {
			continue
		}
		fields := strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
		if fields[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		for _, field := range fields[11:13] {
			ticks, _ := strconv.ParseFloat(field, 64)
			sum += ticks / 100
		}
	}
	return sum
}

func freeAddress(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func read(response *http.Response) (string, error) {
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return string(content), err
}
