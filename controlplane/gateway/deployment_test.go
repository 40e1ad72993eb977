// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/bootstrap"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/envoy"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/apply"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/golden"
)

var here = placement{namespace: "kamaji-system", image: "example.com/kamaji-gateway:v1", xdsAddress: "kamaji-xds.kamaji-system.svc:18000", issuer: DefaultXDSIssuer}

func testGateway() *v1alpha2.KamajiGateway {
	return &v1alpha2.KamajiGateway{
		ObjectMeta: metav1.ObjectMeta{Name: "default", UID: "2b1f6d52-0000-4000-8000-000000000001"},
		Spec: v1alpha2.KamajiGatewaySpec{
			Domain: "k8s.example.com", PublicAddress: "203.0.113.10", PrivateAddress: "10.0.0.5", Port: 6443,
			DataPlane: v1alpha2.GatewayDataPlane{
				Type: v1alpha2.DataPlaneEmbedded, Placement: v1alpha2.PlacementInCluster,
				NodeSelector: map[string]string{"kamaji.clastix.io/gateway": "true"},
				Tolerations:  []corev1.Toleration{{Key: "gateway", Operator: corev1.TolerationOpExists}},
			},
		},
	}
}

func TestDataPlaneGolden(t *testing.T) {
	for name, change := range map[string]func(*v1alpha2.KamajiGateway){
		"embedded": func(*v1alpha2.KamajiGateway) {},
		"metrics":  func(g *v1alpha2.KamajiGateway) { g.Spec.DataPlane.MetricsPort = ptr.To[int32](9903) },
		"envoy":    func(g *v1alpha2.KamajiGateway) { g.Spec.DataPlane.Type = v1alpha2.DataPlaneEnvoy },
		"external": func(g *v1alpha2.KamajiGateway) {
			g.Spec.DataPlane = v1alpha2.GatewayDataPlane{Type: v1alpha2.DataPlaneEmbedded, Placement: v1alpha2.PlacementExternal}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := testGateway()
			change(g)
			objects, err := dataPlane(g, here)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objects {
				gvk, err := apiutil.GVKForObject(o, clientgoscheme.Scheme)
				if err != nil {
					t.Fatal(err)
				}
				o.GetObjectKind().SetGroupVersionKind(gvk)
			}
			golden.Objects(t, filepath.Join("testdata", name+".golden.yaml"), objects)
		})
	}
}

// The data plane reads the very file that it is given, and answers where it is probed.
func TestBootstrapLoads(t *testing.T) {
	ds, config := pods(t, testGateway(), here)
	got, err := bootstrap.Parse([]byte(config.Data[configFile]))
	if err != nil {
		t.Fatal(err)
	}
	if got.Node.Gateway != "default" || got.XDS.Address != here.xdsAddress {
		t.Errorf("got %+v", got)
	}
	probe := ds.Spec.Template.Spec.Containers[0].ReadinessProbe.HTTPGet
	if want := net.JoinHostPort(probe.Host, probe.Port.String()); got.HealthAddress != want {
		t.Errorf("health is at %s, and probed at %s", got.HealthAddress, want)
	}
}

// Pods of two versions, or of two gateways, can run side by side on one node.
func TestPodsOfTwoVersionsDoNotCollide(t *testing.T) {
	other, elsewhere, older := testGateway(), here, here
	other.Name = "other"
	elsewhere.xdsAddress = "xds.example.com:18000"
	older.image = "example.com/kamaji-gateway:v0"
	hosts, configs := map[string]bool{}, map[string]bool{}
	for _, tc := range []struct {
		g *v1alpha2.KamajiGateway
		p placement
	}{{testGateway(), here}, {testGateway(), older}, {testGateway(), elsewhere}, {other, here}} {
		ds, config := pods(t, tc.g, tc.p)
		hosts[ds.Spec.Template.Spec.Containers[0].LivenessProbe.HTTPGet.Host] = true
		configs[config.Name] = true
	}
	if len(hosts) != 4 || len(configs) != 4 {
		t.Errorf("got health addresses %v and configurations %v, want 4 of each", hosts, configs)
	}
}

func pods(t *testing.T, g *v1alpha2.KamajiGateway, p placement) (ds *appsv1.DaemonSet, config *corev1.ConfigMap) {
	t.Helper()
	objects, err := dataPlane(g, p)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		switch o := o.(type) {
		case *appsv1.DaemonSet:
			ds = o
		case *corev1.ConfigMap:
			config = o
		}
	}
	return ds, config
}

// Envoy is probed and drained where its companion answers, and reads the files that it is given.
func TestEnvoysPods(t *testing.T) {
	g := testGateway()
	g.Spec.DataPlane.Type = v1alpha2.DataPlaneEnvoy
	g.Spec.TenantPorts = &v1alpha2.TenantPorts{PortRange: v1alpha2.PortRange{First: 10250, Last: 10270}}
	ds, config := pods(t, g, here)
	pod := ds.Spec.Template.Spec
	proxy, beside := pod.Containers[0], pod.InitContainers[0]
	health := net.JoinHostPort(proxy.ReadinessProbe.HTTPGet.Host, strconv.Itoa(healthPort))
	for _, want := range []string{"--health-address=" + health, "--tenant-ports=10261-10270", "--private-address=10.0.0.5", "--port=6443"} {
		if !slices.Contains(beside.Args, want) {
			t.Errorf("the companion's arguments %q lack %s", beside.Args, want)
		}
	}
	if host := proxy.Lifecycle.PreStop.HTTPGet.Host; host != proxy.ReadinessProbe.HTTPGet.Host || host != beside.StartupProbe.HTTPGet.Host {
		t.Errorf("drained at %s, probed at %s and %s", host, proxy.ReadinessProbe.HTTPGet.Host, beside.StartupProbe.HTTPGet.Host)
	}
	if _, ok := config.Data[envoy.BootstrapFile]; !ok || len(config.Data) != 3 {
		t.Errorf("files: %v", slices.Sorted(maps.Keys(config.Data)))
	}
	older := here
	older.image = "example.com/kamaji-gateway:v0"
	if other, before := pods(t, g, older); before.Name == config.Name || other.Spec.Template.Spec.Containers[0].ReadinessProbe.HTTPGet.Host == proxy.ReadinessProbe.HTTPGet.Host {
		t.Error("two versions have the same configuration or health address")
	}
}

func TestRedirectedPorts(t *testing.T) {
	for r, want := range map[v1alpha2.PortRange]string{
		{First: 10000, Last: 29999}: "10000-10247,10261-29999", {First: 10000, Last: 10100}: "10000-10100", {First: 20000, Last: 20000}: "20000-20000",
		{First: 10250, Last: 10300}: "10261-10300", {First: 10000, Last: 10250}: "10000-10247",
	} {
		if got := redirected(r); got != want {
			t.Errorf("%v: got %s, want %s", r, got, want)
		}
	}
}

// writer applies without a cache.
func writer(c client.Client) *apply.Writer { return &apply.Writer{Client: c, Owner: fieldOwner} }
