// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/upgrade"
)

// What both ends of the tunnel have to agree on.
const (
	// KonnectivityNamespace has the agents and the leases of the servers.
	KonnectivityNamespace = system
	// KonnectivityAgent is the name of the agents, and of their ServiceAccount.
	KonnectivityAgent = "konnectivity-agent"
	// KonnectivityAudience of the tokens by which servers recognise agents.
	KonnectivityAudience = "system:konnectivity-server"
	// KonnectivityKeepalive is the interval of pings on idle connections. It is the
	// shortest that servers tolerate, and shorter than idle timeouts on the way.
	KonnectivityKeepalive = "30s"
	// KonnectivityALPN tells a gateway which connections are for the konnectivity
	// server, where it shares name and port with the API server.
	KonnectivityALPN = "konnectivity"
)

const (
	konnectivityAgentImage = registry + "/kas-network-proxy/proxy-agent"
	konnectivityConfPath   = "/etc/konnectivity-agent"
	konnectivityTokenPath  = "/var/run/secrets/tokens"
	konnectivityAdminPort  = 8133
	konnectivityHealthPort = 8134

	// konnectivityMinMinor is the oldest release that is known to count servers by lease.
	konnectivityMinMinor = 34
)

// KonnectivityVersion is the tag of the konnectivity images: the given one, or the
// release for the tenant's minor version of Kubernetes.
func KonnectivityVersion(tenant *kamajiv1alpha1.TenantControlPlane, given string) string {
	if given != "" {
		return given
	}
	return fmt.Sprintf("v0.%d.0", max(upgrade.Minor(tenant.KubernetesVersion()), konnectivityMinMinor))
}

func konnectivity(in Input) ([]client.Object, error) {
	conf, err := podKubeconfig(in.Endpoint.Worker)
	if err != nil {
		return nil, err
	}
	data := map[string]string{"kubeconfig": conf}
	leases := func(verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: verbs}
	}
	out := []client.Object{
		serviceAccount(KonnectivityAgent),
		clusterRoleBinding("system:konnectivity-server", "system:auth-delegator", user(pki.KonnectivityUser)),
		configMap(KonnectivityAgent, nil, data),
	}
	// Each server announces itself by a lease and clears away those of lost ones.
	out = append(out, role("konnectivity-server", user(pki.KonnectivityUser), leases("create", "delete", "get", "list", "patch", "update", "watch"))...)
	out = append(out, role(KonnectivityAgent, account(KonnectivityAgent), leases("get", "list", "watch"))...)

	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: konnectivityLabels(), Annotations: map[string]string{configHash: hash(data)}},
		Spec:       konnectivityPod(in),
	}
	meta := metav1.ObjectMeta{Name: KonnectivityAgent, Namespace: system, Labels: konnectivityLabels()}
	selector := &metav1.LabelSelector{MatchLabels: konnectivityLabels()}
	spec := &in.Tenant.Spec.Addons.Konnectivity.KonnectivityAgentSpec
	if spec.Mode == kamajiv1alpha1.KonnectivityAgentModeDeployment {
		template.Spec.PriorityClassName = "system-cluster-critical"
		return append(out, &appsv1.Deployment{
			TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
			ObjectMeta: meta,
			Spec:       appsv1.DeploymentSpec{Replicas: ptr.To(ptr.Deref(spec.Replicas, 1)), Selector: selector, Template: template},
		}), nil
	}
	return append(out, &appsv1.DaemonSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"},
		ObjectMeta: meta,
		Spec: appsv1.DaemonSetSpec{
			Selector: selector, Template: template,
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType},
		},
	}), nil
}

func konnectivityLabels() map[string]string { return map[string]string{"k8s-app": KonnectivityAgent} }

func konnectivityPod(in Input) corev1.PodSpec {
	spec := &in.Tenant.Spec.Addons.Konnectivity.KonnectivityAgentSpec
	out := corev1.PodSpec{
		PriorityClassName:  "system-node-critical",
		ServiceAccountName: KonnectivityAgent,
		HostNetwork:        ptr.Deref(spec.HostNetwork, in.Endpoint.Gateway),
		NodeSelector:       map[string]string{corev1.LabelOSStable: "linux"},
		Tolerations:        []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		Containers:         []corev1.Container{konnectivityContainer(in)},
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](65532), RunAsGroup: ptr.To[int64](65532), FSGroup: ptr.To[int64](65532),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Volumes: []corev1.Volume{
			{Name: "kubeconfig", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: KonnectivityAgent},
			}}},
			{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
				ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
					Audience: KonnectivityAudience, Path: "token", ExpirationSeconds: ptr.To[int64](3600),
				},
			}}}}},
		},
	}
	if len(spec.Tolerations) > 0 {
		out.Tolerations = spec.Tolerations
	}
	if out.HostNetwork {
		// The tunnel must come up before the cluster's own name server.
		out.DNSPolicy = corev1.DNSDefault
	}
	return out
}

func konnectivityContainer(in Input) corev1.Container {
	spec := &in.Tenant.Spec.Addons.Konnectivity.KonnectivityAgentSpec
	repository := spec.Image
	if repository == "" {
		repository = konnectivityAgentImage
	}
	check := func(path string) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(konnectivityHealthPort), Scheme: corev1.URISchemeHTTP}}
	}
	out := corev1.Container{
		Name:            KonnectivityAgent,
		Image:           repository + ":" + KonnectivityVersion(in.Tenant, spec.Version),
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{"/proxy-agent"},
		Args:            konnectivityArgs(in),
		// On the host network this also keeps two agents from one node.
		Ports:          []corev1.ContainerPort{{Name: "health", ContainerPort: konnectivityHealthPort, Protocol: corev1.ProtocolTCP}},
		LivenessProbe:  &corev1.Probe{ProbeHandler: check("/healthz"), InitialDelaySeconds: 30, PeriodSeconds: 10, TimeoutSeconds: 15, FailureThreshold: 6},
		ReadinessProbe: &corev1.Probe{ProbeHandler: check("/readyz"), PeriodSeconds: 5, TimeoutSeconds: 5, FailureThreshold: 3},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "kubeconfig", MountPath: konnectivityConfPath, ReadOnly: true},
			{Name: "token", MountPath: konnectivityTokenPath, ReadOnly: true},
		},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true), RunAsNonRoot: ptr.To(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
	out.Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("5m"), corev1.ResourceMemory: resource.MustParse("20Mi"),
	}}
	if spec.Resources != nil {
		out.Resources = *spec.Resources
	}
	return out
}

func konnectivityArgs(in Input) []string {
	spec := &in.Tenant.Spec.Addons.Konnectivity.KonnectivityAgentSpec
	server := in.Endpoint.Tunnel
	args := []string{
		"--admin-server-port=" + strconv.Itoa(konnectivityAdminPort),
		"--ca-cert=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
		"--count-server-leases=true",
		"--health-server-port=" + strconv.Itoa(konnectivityHealthPort),
		"--keepalive-time=" + KonnectivityKeepalive,
		"--kubeconfig=" + konnectivityConfPath + "/kubeconfig",
		"--lease-namespace=" + KonnectivityNamespace,
		"--logtostderr=true",
		"--proxy-server-host=" + server.Host,
		"--proxy-server-port=" + strconv.Itoa(int(server.Port)),
		// Counting by lease alone would miss servers whose lease is late.
		"--server-count-source=max",
		"--service-account-token-path=" + konnectivityTokenPath + "/token",
		"--sync-interval=5s",
		"--sync-interval-cap=30s",
	}
	if in.Endpoint.Gateway {
		args = append(args, "--alpn-proto="+KonnectivityALPN)
	}
	name := func(arg string) string {
		before, _, _ := strings.Cut(arg, "=")
		return before
	}
	args = slices.DeleteFunc(args, func(arg string) bool {
		return slices.ContainsFunc(spec.ExtraArgs, func(extra string) bool { return name(extra) == name(arg) })
	})
	slices.Sort(args)
	return append(args, spec.ExtraArgs...)
}
