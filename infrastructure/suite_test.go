// SPDX-License-Identifier: Apache-2.0

package infrastructure_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/cluster"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver/fake"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/host"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/machine"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

const (
	hostKey    = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGhvc3RrZXlob3N0a2V5aG9zdGtleWhvc3RrZXlob3N0 pinned"
	privateKey = "the fake host only compares it"
	// releaseTimeout by the test's clock.
	releaseTimeout = time.Hour
	token          = "abcdef.0123456789abcdef"
)

// bootstrapData is what the kubeadm bootstrap provider writes for a worker, shortened.
const bootstrapData = `## template: jinja
#cloud-config

write_files:
-   path: /run/kubeadm/kubeadm-join-config.yaml
    owner: root:root
    permissions: '0640'
    content: |
      ---
      apiVersion: kubeadm.k8s.io/v1beta4
      kind: JoinConfiguration
      discovery:
        bootstrapToken:
          apiServerEndpoint: demo.example.com:6443
          caCertHashes:
          - sha256:` + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" + `
          token: ` + token + `
      nodeRegistration:
        kubeletExtraArgs: null
        name: '{{ ds.meta_data.local_hostname }}'
        taints: null
-   path: /run/cluster-api/placeholder
    owner: root:root
    permissions: '0640'
    content: "This placeholder file is used to create the /run/cluster-api sub directory in a way that is compatible with both Linux and Windows (mkdir -p /run/cluster-api does not work with Windows)"
runcmd:
  - kubeadm join --config /run/kubeadm/kubeadm-join-config.yaml  && echo success > /run/cluster-api/bootstrap-success.complete
`

// world is one API server with the rack controllers running against hosts in memory.
type world struct {
	client.Client
	config *rest.Config
	fleet  *fake.Fleet
	// clock of the host controller stands still unless a test moves it.
	clock *clocktesting.FakePassiveClock
}

func newScheme(t testing.TB) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, clusterv1.AddToScheme, infrav1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

func clusterAPICRDs(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/cluster-api").Output()
	if err != nil {
		t.Fatalf("finding Cluster API's module: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "core", "config", "crd", "bases")
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctrl.SetLogger(klog.Background())
	scheme := newScheme(t)
	crds := clusterAPICRDs(t)
	config, c := testenv.Start(t, scheme, "config/infrastructure/crd/bases",
		"config/controlplane/crd/bases/controlplane.cluster.x-k8s.io_kamajicontrolplanes.yaml",
		filepath.Join(crds, "cluster.x-k8s.io_clusters.yaml"), filepath.Join(crds, "cluster.x-k8s.io_machines.yaml"))
	// The controllers have the rights of an installed manager.
	testenv.AsManager(t, config, c, "config/infrastructure/rbac/role.yaml")
	config = rest.CopyConfig(config)
	config.Impersonate.UserName = testenv.ManagerUser
	w := &world{Client: c, config: config, fleet: &fake.Fleet{}, clock: clocktesting.NewFakePassiveClock(time.Now())}
	w.run(t, scheme)
	return w
}

// run starts a manager until the test ends.
func (w *world) run(t *testing.T, scheme *runtime.Scheme) {
	t.Helper()
	mgr, err := ctrl.NewManager(w.config, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	for _, err := range []error{
		cluster.SetupWithManager(ctx, mgr, cluster.Options{ControlPlanePatience: time.Hour}),
		machine.SetupWithManager(ctx, mgr, machine.Options{}),
		host.SetupWithManager(ctx, mgr, w.fleet.Dial, host.Options{
			PollInterval: 20 * time.Millisecond, RetryInterval: 100 * time.Millisecond, ReconnectInterval: 100 * time.Millisecond,
			ReleaseTimeout: releaseTimeout, Clock: w.clock,
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("manager: %v", err)
		}
	})
}

// place is one namespace of the world with a cluster in it.
type place struct {
	*world
	t         *testing.T
	ctx       context.Context
	namespace string
	cluster   *clusterv1.Cluster
}

// place makes a namespace with the SSH key, the bootstrap data, and a Cluster whose infrastructure is provisioned.
func (w *world) place(t *testing.T) *place {
	t.Helper()
	p := &place{world: w, t: t, ctx: t.Context()}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "rack-"}}
	p.create(ns)
	p.namespace = ns.Name
	p.secret("ssh", map[string]string{"ssh-privatekey": privateKey})
	p.secret("bootstrap", map[string]string{"value": bootstrapData, "format": "cloud-config"})
	p.cluster = &clusterv1.Cluster{
		ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: p.namespace},
		Spec: clusterv1.ClusterSpec{InfrastructureRef: clusterv1.ContractVersionedObjectReference{
			APIGroup: infrav1.GroupVersion.Group, Kind: "RackCluster", Name: "demo",
		}},
	}
	p.create(p.cluster)
	before := p.cluster.DeepCopy()
	p.cluster.Status.Initialization.InfrastructureProvisioned = ptr.To(true)
	p.must(w.Status().Patch(p.ctx, p.cluster, client.MergeFrom(before)))
	return p
}

func (p *place) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) create(obj client.Object) {
	p.t.Helper()
	p.must(p.Create(p.ctx, obj))
}

func (p *place) secret(name string, data map[string]string) {
	p.t.Helper()
	p.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: p.namespace}, StringData: data})
}

// hosts adds n healthy hosts called h0, h1 …, and returns the machines behind them.
func (p *place) hosts(n int, change ...func(*infrav1.RackHost, *fake.Host)) []*fake.Host {
	p.t.Helper()
	out := make([]*fake.Host, n)
	for i := range out {
		name := fmt.Sprintf("h%d", i)
		out[i] = &fake.Host{HostKey: hostKey, PrivateKey: privateKey, Facts: driver.Facts{
			Hostname: name, BootID: "boot", MachineID: name, Architecture: "amd64", OS: "Debian GNU/Linux 12 (bookworm)",
			Kernel: "6.1.0", CPUs: 4, MemoryBytes: 8 << 30, Addresses: []string{"192.0.2.1"}, KubeadmVersion: "v1.36.3",
		}}
		address := name + "." + p.namespace + ".example.com"
		obj := &infrav1.RackHost{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: p.namespace},
			Spec: infrav1.RackHostSpec{SSH: infrav1.SSHAccess{
				Address: address, PrivateKeySecretRef: infrav1.SecretKeyReference{Name: "ssh"}, HostKeys: []string{hostKey},
			}},
		}
		for _, f := range change {
			f(obj, out[i])
		}
		p.fleet.Add(address, out[i])
		p.create(obj)
	}
	return out
}

// machine creates a Machine and its RackMachine, as a MachineSet does.
func (p *place) machine(name string, change ...func(*clusterv1.Machine, *infrav1.RackMachine)) {
	p.t.Helper()
	labels := map[string]string{clusterv1.ClusterNameLabel: p.cluster.Name}
	m := &clusterv1.Machine{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: p.namespace, Labels: labels},
		Spec: clusterv1.MachineSpec{
			ClusterName: p.cluster.Name, Version: "v1.36.3",
			Bootstrap:         clusterv1.Bootstrap{DataSecretName: ptr.To("bootstrap")},
			InfrastructureRef: clusterv1.ContractVersionedObjectReference{APIGroup: infrav1.GroupVersion.Group, Kind: "RackMachine", Name: name},
		},
	}
	rm := &infrav1.RackMachine{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: p.namespace, Labels: labels}}
	for _, f := range change {
		f(m, rm)
	}
	p.create(m)
	rm.OwnerReferences = []metav1.OwnerReference{
		{APIVersion: "v1", Kind: "ConfigMap", Name: "other", UID: "other"},
		{APIVersion: clusterv1.GroupVersion.String(), Kind: "Machine", Name: m.Name, UID: m.UID},
	}
	p.create(rm)
}

func (p *place) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: p.namespace, Name: name}
}

func (p *place) remove(name string) {
	p.t.Helper()
	p.must(p.Delete(p.ctx, &infrav1.RackMachine{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: p.namespace}}))
}

func (p *place) annotate(obj client.Object, name, key, value string) {
	p.t.Helper()
	p.must(p.Get(p.ctx, p.key(name), obj))
	before := obj.DeepCopyObject().(client.Object)
	annotations := obj.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[key] = value
	obj.SetAnnotations(annotations)
	p.must(p.Patch(p.ctx, obj, client.MergeFrom(before)))
}

// eventually reads until probe is content, and fails with what it said last.
func (p *place) eventually(what string, probe func() string) {
	p.t.Helper()
	complaint := "never looked"
	err := wait.PollUntilContextTimeout(p.ctx, 20*time.Millisecond, 60*time.Second, true, func(context.Context) (bool, error) {
		complaint = probe()
		return complaint == "", nil
	})
	if err != nil {
		p.t.Fatalf("%s: %s", what, complaint)
	}
}

func (p *place) host(name string) *infrav1.RackHost {
	p.t.Helper()
	h := &infrav1.RackHost{}
	p.must(p.Get(p.ctx, p.key(name), h))
	return h
}

func (p *place) rackMachine(name string) *infrav1.RackMachine {
	p.t.Helper()
	m := &infrav1.RackMachine{}
	p.must(p.Get(p.ctx, p.key(name), m))
	return m
}

// hostIs waits for a phase, and for a reason of a condition when one is given as "Type=Reason".
func (p *place) hostIs(name string, phase infrav1.HostPhase, conditions ...string) *infrav1.RackHost {
	p.t.Helper()
	var h *infrav1.RackHost
	p.eventually("host "+name, func() string {
		h = p.host(name)
		if h.Status.Phase != phase {
			return fmt.Sprintf("phase is %s, want %s: %+v", h.Status.Phase, phase, h.Status.Conditions)
		}
		return missing(h.Status.Conditions, conditions)
	})
	return h
}

func (p *place) machineIs(name string, conditions ...string) *infrav1.RackMachine {
	p.t.Helper()
	var m *infrav1.RackMachine
	p.eventually("machine "+name, func() string {
		m = p.rackMachine(name)
		return missing(m.Status.Conditions, conditions)
	})
	return m
}

func missing(have []metav1.Condition, want []string) string {
	for _, w := range want {
		kind, reason, _ := strings.Cut(w, "=")
		if c := meta.FindStatusCondition(have, kind); c == nil || c.Reason != reason {
			return fmt.Sprintf("want %s: %+v", w, have)
		}
	}
	return ""
}

func (p *place) gone(obj client.Object, name string) {
	p.t.Helper()
	p.eventually(fmt.Sprintf("%T %s", obj, name), func() string {
		if err := p.Get(p.ctx, p.key(name), obj); client.IgnoreNotFound(err) != nil {
			return err.Error()
		} else if err == nil {
			return "is still there"
		}
		return ""
	})
}

// login connects to a host beside the controllers.
func (p *place) login(h *fake.Host) driver.Driver {
	p.t.Helper()
	aside := &fake.Fleet{}
	aside.Add("aside", h)
	d, err := aside.Dial(p.ctx, driver.Target{Address: "aside", PrivateKey: []byte(h.PrivateKey), HostKeys: []string{h.HostKey}})
	p.must(err)
	return d
}

// adopt makes a host run what another management cluster delivered.
func (p *place) adopt(h *fake.Host, operation string) {
	p.t.Helper()
	d := p.login(h)
	p.must(d.Deliver(p.ctx, driver.Operation{ID: operation}))
	_, err := d.Observe(p.ctx, operation)
	p.must(err)
}

// holder is the bootstrap that a host carries.
func (p *place) holder(h *fake.Host) string {
	p.t.Helper()
	facts, err := p.login(h).Probe(p.ctx)
	p.must(err)
	return facts.OperationID
}
