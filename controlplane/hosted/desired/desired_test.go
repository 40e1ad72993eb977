// SPDX-License-Identifier: Apache-2.0

package desired_test

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeconfig"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/golden"
)

// input is a tenant as small as the schema allows, without a gateway or addons.
func input() desired.Input {
	tenant := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{
		Name: "customer1", Namespace: "kamaji-system", UID: "11111111-2222-3333-4444-555555555555",
	}}
	tenant.Spec.ControlPlane.Deployment.Replicas = ptr.To[int32](2)
	tenant.Spec.ControlPlane.Deployment.AdditionalMetadata.Labels = map[string]string{"customer": "customer1"}
	tenant.Spec.ControlPlane.Service.ServiceType = kamajiv1alpha1.ServiceTypeClusterIP
	tenant.Spec.Kubernetes.Version = "1.31.0"
	tenant.Spec.Kubernetes.Kubelet.CGroupFS = "systemd"
	tenant.Spec.NetworkProfile.Port = 6443
	in := desired.Input{
		Tenant:               tenant,
		Storage:              desired.Storage{Endpoints: []string{"etcd-0.etcd:2379", "etcd-1.etcd:2379"}, Schema: "kamaji-system_customer1"},
		ClusterConfiguration: "kind: ClusterConfiguration\n",
		Secrets: map[string]map[string][]byte{
			pki.CA:                       secret("ca.crt", "ca.key", "tls.crt", "tls.key", pki.SignerFile, pki.ClientsFile),
			pki.FrontProxyCA:             secret("front-proxy-ca.crt", "front-proxy-ca.key"),
			pki.ServiceAccount:           secret("sa.key", "sa.pub"),
			pki.APIServer:                secret("apiserver.crt", "apiserver.key"),
			pki.APIServerKubeletClient:   secret("apiserver-kubelet-client.crt", "apiserver-kubelet-client.key"),
			pki.FrontProxyClient:         secret("front-proxy-client.crt", "front-proxy-client.key"),
			pki.DataStore:                secret("ca.crt", "server.crt", "server.key"),
			desired.StorageConfig:        secret("DB_CONNECTION_STRING", "DB_SCHEMA", "DB_USER", "DB_PASSWORD"),
			kubeconfig.Admin:             secret(kubeconfig.AdminConf, kubeconfig.AdminService, kubeconfig.SuperAdminConf, kubeconfig.SuperAdminService),
			kubeconfig.ControllerManager: secret("controller-manager.conf"),
			kubeconfig.Scheduler:         secret("scheduler.conf"),
		},
	}
	resolve(&in)
	return in
}

func secret(keys ...string) map[string][]byte {
	out := map[string][]byte{}
	for _, key := range keys {
		out[key] = []byte("content of " + key)
	}
	return out
}

func resolve(in *desired.Input) {
	service := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.96.12.34", ClusterIPs: []string{"10.96.12.34"}}}
	e, err := endpoint.Resolve(in.Tenant, service)
	if err != nil {
		panic(err)
	}
	in.Endpoint = e
}

// throughGateway is a tenant as the cluster template makes it.
func throughGateway() desired.Input {
	in := input()
	spec := &in.Tenant.Spec
	spec.Kubernetes.Version = "v1.36.3"
	spec.ControlPlane.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{Name: "default"}
	spec.Addons = kamajiv1alpha1.AddonsSpec{
		CoreDNS: &kamajiv1alpha1.AddonSpec{}, KubeProxy: &kamajiv1alpha1.AddonSpec{}, Konnectivity: &kamajiv1alpha1.KonnectivitySpec{},
	}
	in.Tenant.Status.KamajiGateway = &kamajiv1alpha1.KamajiGatewayStatus{
		Name: "default", Hostname: "customer1.k8s.example.com", PublicAddress: "203.0.113.10", PrivateAddress: "10.0.0.100", Port: 6443, TenantPort: 21034,
	}
	in.Secrets[pki.Konnectivity] = secret("tls.crt", "tls.key")
	in.Secrets[kubeconfig.Konnectivity] = secret("konnectivity-server.conf")
	in.Network = &desired.Network{
		Closed:   []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("172.18.0.2/32"), netip.MustParsePrefix("fd00:10::/56")},
		Scrapers: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: "monitoring"}},
	}
	resolve(&in)
	return in
}

// everything sets the fields that few people use.
func everything() desired.Input {
	in := throughGateway()
	spec := &in.Tenant.Spec
	d := &spec.ControlPlane.Deployment
	small := &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}}
	mount := []corev1.VolumeMount{{Name: "audit", MountPath: "/etc/audit"}}
	d.Replicas = ptr.To[int32](3)
	d.RegistrySettings = kamajiv1alpha1.RegistrySettings{Registry: "mirror.example.com/k8s", TagSuffix: "-hardened", APIServerImage: "apiserver"}
	d.NodeSelector = map[string]string{"pool": "control-planes"}
	d.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}}
	d.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule}}
	d.RuntimeClassName = "gvisor"
	d.Strategy = appsv1.DeploymentStrategy{
		Type:          appsv1.RollingUpdateDeploymentStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: ptr.To(intstr.FromInt32(1)), MaxUnavailable: ptr.To(intstr.FromInt32(0))},
	}
	d.Resources = &kamajiv1alpha1.ControlPlaneComponentsResources{APIServer: small, ControllerManager: small, Scheduler: small}
	d.ExtraArgs = &kamajiv1alpha1.ControlPlaneExtraArgs{
		APIServer:         []string{"--etcd-prefix=/stolen", "--goaway-chance=0", "--authorization-config=/etc/authz/config.yaml", "--v=4", "--v=5"},
		ControllerManager: []string{"--controllers=*", "--node-cidr-mask-size=26"},
		Scheduler:         []string{"--leader-elect=false", "--v=3"},
	}
	d.PodAdditionalMetadata = kamajiv1alpha1.AdditionalMetadata{
		Labels: map[string]string{"team": "a", kamajiv1alpha1.NameLabel: "stolen"}, Annotations: map[string]string{"note": "x"},
	}
	d.AdditionalMetadata.Annotations = map[string]string{"note": "y"}
	d.AdditionalInitContainers = []corev1.Container{{Name: "prepare", Image: "example.com/prepare:1"}}
	d.AdditionalContainers = []corev1.Container{{Name: "logger", Image: "example.com/logger:1", Ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: 9090}, {ContainerPort: 514, Protocol: corev1.ProtocolUDP}}}, {Name: "kube-scheduler", Image: "example.com/scheduler:1"}}
	d.AdditionalVolumes = []corev1.Volume{{Name: "audit", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	d.AdditionalVolumeMounts = &kamajiv1alpha1.AdditionalVolumeMounts{APIServer: mount, ControllerManager: mount, Scheduler: mount}
	d.Probes = &kamajiv1alpha1.ControlPlaneProbes{
		ProbeSet:          kamajiv1alpha1.ProbeSet{Startup: &kamajiv1alpha1.ProbeSpec{FailureThreshold: ptr.To[int32](600)}},
		APIServer:         &kamajiv1alpha1.ProbeSet{Startup: &kamajiv1alpha1.ProbeSpec{FailureThreshold: ptr.To[int32](900)}, Liveness: &kamajiv1alpha1.ProbeSpec{TimeoutSeconds: ptr.To[int32](30)}},
		ControllerManager: &kamajiv1alpha1.ProbeSet{Readiness: &kamajiv1alpha1.ProbeSpec{PeriodSeconds: ptr.To[int32](7)}},
	}
	d.ServiceAccountName = "tenants"
	d.AutomountServiceAccountToken = ptr.To(true)
	d.PodSecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr.To[int64](1000), FSGroup: ptr.To[int64](1000)}
	d.ContainerSecurityContexts = &kamajiv1alpha1.ContainerSecurityContexts{Scheduler: &corev1.SecurityContext{RunAsUser: ptr.To[int64](1001)}}
	spec.ControlPlane.Service = kamajiv1alpha1.ServiceSpec{
		ServiceType:                   kamajiv1alpha1.ServiceTypeLoadBalancer,
		AdditionalMetadata:            kamajiv1alpha1.AdditionalMetadata{Annotations: map[string]string{"lb": "internal"}},
		AdditionalPorts:               []kamajiv1alpha1.AdditionalPort{{Name: "metrics", Port: 9090, TargetPort: intstr.FromString("metrics"), AppProtocol: ptr.To("http")}},
		AllocateLoadBalancerNodePorts: ptr.To(false),
	}
	spec.NetworkProfile = kamajiv1alpha1.NetworkProfileSpec{
		Address: "192.0.2.1", Port: 7443, ClusterDomain: "tenant.example.com", ServiceCIDRs: []string{"10.100.0.0/16", "fd00:1::/112"},
		PodCIDRs: []string{"10.101.0.0/16", "fd00:2::/64"}, LoadBalancerSourceRanges: []string{"192.0.2.0/24"}, LoadBalancerClass: ptr.To("example.com/lb"),
	}
	spec.Kubernetes.AdmissionControllers = []kamajiv1alpha1.AdmissionController{"PodNodeSelector", "ServiceAccount"}
	spec.Kubernetes.Kubelet.PreferredAddressTypes = []kamajiv1alpha1.KubeletPreferredAddressType{"Hostname", "InternalIP"}
	spec.Addons.Konnectivity.KonnectivityServerSpec = kamajiv1alpha1.KonnectivityServerSpec{
		Port: 9132, Version: "v0.36.9", Image: "mirror.example.com/proxy-server", Resources: small, ExtraArgs: []string{"--keepalive-time=1m", "--v=2"},
	}
	spec.InternalCACertificatesConfigMap = ptr.To("corporate-ca")
	in.Storage.Overrides = []desired.StorageOverride{{Resource: "/events", Endpoints: []string{"events-0:2379", "events-1:2379"}}}
	in.Rotated = map[string]string{pki.APIServer: "2026-03-01T12:00:00Z"}
	in.Retired = map[string]string{pki.CA: "2026-03-01T12:00:00Z"}
	spec.ControlPlane.Monitoring = &kamajiv1alpha1.MonitoringSpec{AdditionalMetadata: kamajiv1alpha1.AdditionalMetadata{Labels: map[string]string{"release": "prometheus"}}, Interval: "30s"}
	in.Secrets[pki.Metrics] = secret("ca.crt", "tls.crt", "tls.key")
	in.Public = &desired.Public{Secret: "public", Hostnames: []string{"demo.example.com", "www.example.com"}}
	resolve(&in)
	return in
}

// throughKine is a tenant in a PostgreSQL, with what can be set for kine.
func throughKine() desired.Input {
	in := throughGateway()
	d := &in.Tenant.Spec.ControlPlane.Deployment
	d.ExtraArgs = &kamajiv1alpha1.ControlPlaneExtraArgs{Kine: []string{"--datastore-max-open-connections=8", "--debug"}}
	d.Resources = &kamajiv1alpha1.ControlPlaneComponentsResources{
		Kine: &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}},
	}
	d.AdditionalInitContainers = []corev1.Container{{Name: "proxy", Image: "example.com/proxy:1"}}
	d.AdditionalContainers = []corev1.Container{{Name: "kine", Image: "example.com/kine:1"}, {Name: "logger", Image: "example.com/logger:1"}}
	in.Storage.Kine = desired.KineImage
	in.Secrets[pki.DataStore] = secret("ca.crt")
	in.Secrets[desired.StorageConfig][desired.KineEndpoint] = []byte("postgres://")
	return in
}

func TestWorkload(t *testing.T) {
	for name, in := range map[string]desired.Input{"plain": input(), "gateway": throughGateway(), "everything": everything(), "kine": throughKine()} {
		t.Run(name, func(t *testing.T) {
			golden.Objects(t, filepath.Join("testdata", name+".yaml"), desired.Workload(in))
		})
	}
}

// TestPublished has what only the way in which a tenant is published brings.
func TestPublished(t *testing.T) {
	meta := kamajiv1alpha1.AdditionalMetadata{Labels: map[string]string{"team": "a"}, Annotations: map[string]string{"ssl-passthrough": "true"}}
	for name, publish := range map[string]func(*kamajiv1alpha1.ControlPlane){
		"ingress": func(c *kamajiv1alpha1.ControlPlane) {
			c.Ingress = &kamajiv1alpha1.IngressSpec{AdditionalMetadata: meta, IngressClassName: "nginx", Hostname: "customer1.example.com:443"}
		},
		"customers-by-tlsroute": func(c *kamajiv1alpha1.ControlPlane) { // beside a KamajiGateway
			c.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{Name: "default", Exposure: kamajiv1alpha1.GatewayExposurePrivate}
			c.Gateway = &kamajiv1alpha1.GatewaySpec{Hostname: "customer1.example.com", GatewayParentRefs: []gatewayv1.ParentReference{{Name: "edge"}}}
		},
		"tlsroute": func(c *kamajiv1alpha1.ControlPlane) {
			c.Gateway = &kamajiv1alpha1.GatewaySpec{AdditionalMetadata: meta, Hostname: "customer1.example.com", GatewayParentRefs: []gatewayv1.ParentReference{
				{Name: "edge", Namespace: ptr.To[gatewayv1.Namespace]("infra"), SectionName: ptr.To[gatewayv1.SectionName]("kube-apiserver"), Port: ptr.To[int32](443)},
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := throughGateway()
			in.Tenant.Spec.ControlPlane.KamajiGateway = nil
			publish(&in.Tenant.Spec.ControlPlane)
			resolve(&in)
			var objects []client.Object
			for _, o := range desired.Workload(in) {
				switch o.(type) {
				case *networkingv1.Ingress, *gatewayv1.TLSRoute, *corev1.Service:
					objects = append(objects, o)
				}
			}
			golden.Objects(t, filepath.Join("testdata", name+".yaml"), objects)
		})
	}
}

func TestTemplateStaysWhenScaled(t *testing.T) {
	in := throughGateway()
	before := desired.Deployment(in)
	in.Tenant.Spec.ControlPlane.Deployment.Replicas = ptr.To[int32](9)
	after := desired.Deployment(in)
	if diff := cmp.Diff(before.Spec.Template, after.Spec.Template); diff != "" {
		t.Errorf("scaling restarts every pod (-before +after):\n%s", diff)
	}
	if *after.Spec.Replicas != 9 {
		t.Errorf("replicas = %d", *after.Spec.Replicas)
	}
}

// Agents dial the port that the tenant's spec has, at the address of a node.
func TestNodePortsAreThoseOfTheService(t *testing.T) {
	tenant := throughGateway().Tenant
	tenant.Spec.ControlPlane.KamajiGateway = nil
	tenant.Spec.ControlPlane.Service.ServiceType = kamajiv1alpha1.ServiceTypeNodePort
	tenant.Spec.NetworkProfile.Port = 31443
	tenant.Spec.Addons.Konnectivity.KonnectivityServerSpec.Port = 31132
	want := map[string]int32{desired.APIServerPortName: 31443, desired.KonnectivityPortName: 31132}
	got := map[string]int32{}
	for _, port := range desired.Service(tenant).Spec.Ports {
		got[port.Name] = port.NodePort
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("node ports (-want +got):\n%s", diff)
	}
}

func TestRolloutOnChangedSecrets(t *testing.T) {
	restarts := map[string]bool{
		pki.CA: true, pki.FrontProxyCA: true, pki.ServiceAccount: true, pki.APIServer: true, pki.APIServerKubeletClient: true,
		pki.FrontProxyClient: true, pki.DataStore: true, kubeconfig.ControllerManager: true, kubeconfig.Scheduler: true,
		kubeconfig.Konnectivity: true,
		// Used by people and automation, or only a copy of what another Secret holds.
		kubeconfig.Admin: false, pki.Konnectivity: false, desired.StorageConfig: false,
	}
	base := desired.Deployment(throughGateway())
	for name := range throughGateway().Secrets {
		in := throughGateway()
		in.Secrets[name] = secret("something else")
		rolls := !cmp.Equal(base.Spec.Template, desired.Deployment(in).Spec.Template)
		if want, known := restarts[name]; !known || rolls != want {
			t.Errorf("a change of Secret %s restarts the pods: %t, want %t", name, rolls, want)
		}
	}
}

func TestAuthorityKeyOnlyWhereItSigns(t *testing.T) {
	deployment := desired.Deployment(throughGateway())
	with := map[string]bool{}
	for _, v := range deployment.Spec.Template.Spec.Volumes {
		if v.Secret != nil && (strings.HasSuffix(v.Secret.SecretName, "-"+pki.CA) || strings.HasSuffix(v.Secret.SecretName, "-"+kubeconfig.Admin)) {
			t.Errorf("volume %s has the whole Secret %s", v.Name, v.Secret.SecretName)
		}
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			for _, item := range source.Secret.Items {
				if item.Key == "ca.key" || item.Key == "tls.key" {
					with[v.Name] = true
				}
			}
		}
	}
	for _, c := range deployment.Spec.Template.Spec.Containers {
		for _, m := range c.VolumeMounts {
			if with[m.Name] && c.Name != "kube-controller-manager" {
				t.Errorf("%s can read the key of the certificate authority", c.Name)
			}
		}
	}
	if len(with) != 1 {
		t.Errorf("volumes with the key: %v", with)
	}
}

func TestNodeRestriction(t *testing.T) {
	plugins := func(user ...string) string {
		in := input()
		in.Tenant.Spec.ControlPlane.Deployment.ExtraArgs = &kamajiv1alpha1.ControlPlaneExtraArgs{APIServer: user}
		for _, arg := range desired.Deployment(in).Spec.Template.Spec.Containers[0].Args {
			if strings.HasPrefix(arg, "--enable-admission-plugins=") {
				return arg
			}
		}
		return ""
	}
	if !strings.Contains(plugins(), "NodeRestriction") {
		t.Error("NodeRestriction is off by default")
	}
	for _, user := range [][]string{{"--disable-admission-plugins=NodeRestriction,X"}, {"--disable-admission-plugins", "X,NodeRestriction"}} {
		if strings.Contains(plugins(user...), "NodeRestriction") {
			t.Errorf("%v doesn't turn NodeRestriction off", user)
		}
	}
}

// Leases are renewed rarely, unless the user says how often.
func TestLeaderElection(t *testing.T) {
	arguments := func(user ...string) []string {
		in := input()
		in.Tenant.Spec.ControlPlane.Deployment.ExtraArgs = &kamajiv1alpha1.ControlPlaneExtraArgs{ControllerManager: user, Scheduler: user}
		var out []string
		for _, c := range desired.Deployment(in).Spec.Template.Spec.Containers[1:] {
			for _, arg := range c.Args {
				if strings.HasPrefix(arg, "--leader-elect-") {
					out = append(out, arg)
				}
			}
		}
		return out
	}
	ours := []string{"--leader-elect-lease-duration=30s", "--leader-elect-renew-deadline=20s", "--leader-elect-retry-period=5s"}
	if got := arguments(); !slices.Equal(got, slices.Concat(ours, ours)) {
		t.Errorf("got %v", got)
	}
	theirs := "--leader-elect-lease-duration=16s"
	if got := arguments(theirs); !slices.Equal(got, []string{theirs, theirs}) {
		t.Errorf("beside the user's: got %v, which may not fit it", got)
	}
}

// An argument that the engine sets itself goes with its value, whichever way that is written, and nothing else goes.
func TestFixedArguments(t *testing.T) {
	in := input()
	user := []string{"--secure-port", "1", "--v", "2", "--etcd-prefix=/other", "--profiling", "--tls-cert-file", "--vmodule", "secure-port"}
	in.Tenant.Spec.ControlPlane.Deployment.ExtraArgs = &kamajiv1alpha1.ControlPlaneExtraArgs{APIServer: user}
	args := desired.Deployment(in).Spec.Template.Spec.Containers[0].Args
	want := []string{"--v", "2", "--profiling", "--vmodule", "secure-port"}
	if got := args[len(args)-len(want):]; !slices.Equal(got, want) {
		t.Errorf("the arguments end in %v, want %v", got, want)
	}
	if slices.Contains(args, "1") {
		t.Errorf("the value of a flag has stayed without it: %v", args)
	}
}
