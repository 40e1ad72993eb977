// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"fmt"
	"net/netip"
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
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/upgrade"
)

const coreDNSName = "coredns"

// coreDNSLabels is a new map at each call: whoever applies an object may add labels.
func coreDNSLabels() map[string]string { return map[string]string{"k8s-app": "kube-dns"} }

// coreDNSTags are the releases of CoreDNS that kubeadm installs, by minor version.
// Source: CoreDNSVersion in cmd/kubeadm/app/constants/constants.go of
// k8s.io/kubernetes v1.30.14, v1.32.13, v1.33.0, v1.34.10, v1.35.8 and v1.36.3; 1.30 and 1.31 ended with the one of 1.32.
var coreDNSTags = map[int]string{32: "v1.11.3", 33: "v1.12.0", 34: "v1.12.1", 35: "v1.13.1", 36: "v1.14.2"}

// coreDNSTag is the release of CoreDNS for the tenant's version.
func coreDNSTag(tenant *kamajiv1alpha1.TenantControlPlane) string {
	minor := min(max(upgrade.Minor(tenant.KubernetesVersion()), 32), upgrade.MaxMinor)
	return coreDNSTags[minor]
}

// DefaultCorefile is the ConfigMap with CoreDNS's configuration, or nil if CoreDNS
// is not enabled. It must be created when it doesn't exist, and never be changed:
// from then on it is the user's.
func DefaultCorefile(in Input) *corev1.ConfigMap {
	if in.Tenant.Spec.Addons.CoreDNS == nil {
		return nil
	}
	domain := in.Tenant.ClusterDomain()
	lines := []string{
		".:53 {",
		"    errors",
		"    health {",
		"       lameduck 5s",
		"    }",
		"    ready",
		"    kubernetes " + domain + " in-addr.arpa ip6.arpa {",
		"       pods insecure",
		"       fallthrough in-addr.arpa ip6.arpa",
		"       ttl 30",
		"    }",
		"    prometheus :9153",
		"    forward . /etc/resolv.conf {",
		"       max_concurrent 1000",
		"    }",
		// The kubernetes plugin answers from memory; a cache in front of it would only be stale.
		"    cache 30 {",
		"       disable success " + domain,
		"       disable denial " + domain,
		"    }",
		"    loop",
		"    reload",
		"    loadbalance",
		"}",
	}
	return configMap(coreDNSName, nil, map[string]string{"Corefile": strings.Join(lines, "\n") + "\n"})
}

func coreDNS(in Input) ([]client.Object, error) {
	service, err := coreDNSService(in.Tenant)
	if err != nil {
		return nil, err
	}
	read := []string{"list", "watch"}
	return []client.Object{
		serviceAccount(coreDNSName),
		clusterRole("system:coredns",
			rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"endpoints", "services", "pods", "namespaces"}, Verbs: read},
			rbacv1.PolicyRule{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: read},
		),
		clusterRoleBinding("system:coredns", "system:coredns", account(coreDNSName)),
		service,
		coreDNSDeployment(in.Tenant),
	}, nil
}

func coreDNSService(tenant *kamajiv1alpha1.TenantControlPlane) (*corev1.Service, error) {
	ips, err := tenant.DNSServiceIPs()
	if err != nil {
		return nil, err
	}
	out := &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{
			Name: "kube-dns", Namespace: system,
			Labels: map[string]string{
				"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
			},
			Annotations: map[string]string{"prometheus.io/port": "9153", "prometheus.io/scrape": "true"},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ips[0], ClusterIPs: []string{ips[0]},
			Selector: coreDNSLabels(),
			Ports: []corev1.ServicePort{
				{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt32(53)},
				{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53, TargetPort: intstr.FromInt32(53)},
				{Name: "metrics", Protocol: corev1.ProtocolTCP, Port: 9153, TargetPort: intstr.FromInt32(9153)},
			},
		},
	}
	first, err := netip.ParseAddr(ips[0])
	if err != nil {
		return nil, fmt.Errorf("address of the name server: %w", err)
	}
	for _, ip := range ips[1:] {
		// A Service has one address of each family.
		if other, err := netip.ParseAddr(ip); err == nil && other.Is4() != first.Is4() {
			out.Spec.ClusterIPs = append(out.Spec.ClusterIPs, ip)
			out.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
			break
		}
	}
	return out, nil
}

func coreDNSDeployment(tenant *kamajiv1alpha1.TenantControlPlane) *appsv1.Deployment {
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: coreDNSName, Namespace: system, Labels: coreDNSLabels()},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](2),
			Selector: &metav1.LabelSelector{MatchLabels: coreDNSLabels()},
			Strategy: appsv1.DeploymentStrategy{
				Type:          appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: ptr.To(intstr.FromInt32(1))},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: coreDNSLabels()},
				Spec: corev1.PodSpec{
					PriorityClassName:  "system-cluster-critical",
					ServiceAccountName: coreDNSName,
					DNSPolicy:          corev1.DNSDefault,
					NodeSelector:       map[string]string{corev1.LabelOSStable: "linux"},
					Tolerations:        []corev1.Toleration{{Key: "CriticalAddonsOnly", Operator: corev1.TolerationOpExists}},
					Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
						PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
							Weight: 100,
							PodAffinityTerm: corev1.PodAffinityTerm{
								LabelSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
									{Key: "k8s-app", Operator: metav1.LabelSelectorOpIn, Values: []string{"kube-dns"}},
								}},
								TopologyKey: corev1.LabelHostname,
							},
						}},
					}},
					Containers: []corev1.Container{coreDNSContainer(tenant)},
					Volumes: []corev1.Volume{{Name: "config-volume", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
						LocalObjectReference: corev1.LocalObjectReference{Name: coreDNSName},
						Items:                []corev1.KeyToPath{{Key: "Corefile", Path: "Corefile"}},
					}}}},
				},
			},
		},
	}
}

func coreDNSContainer(tenant *kamajiv1alpha1.TenantControlPlane) corev1.Container {
	check := func(path string, port int32) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(port), Scheme: corev1.URISchemeHTTP}}
	}
	port := func(name string, number int32, protocol corev1.Protocol) corev1.ContainerPort {
		return corev1.ContainerPort{Name: name, ContainerPort: number, Protocol: protocol}
	}
	return corev1.Container{
		Name:            coreDNSName,
		Image:           image(tenant.Spec.Addons.CoreDNS, registry+"/coredns", coreDNSName, coreDNSTag(tenant)),
		ImagePullPolicy: corev1.PullIfNotPresent,
		Args:            []string{"-conf", "/etc/coredns/Corefile"},
		Ports: []corev1.ContainerPort{
			port("dns", 53, corev1.ProtocolUDP), port("dns-tcp", 53, corev1.ProtocolTCP), port("metrics", 9153, corev1.ProtocolTCP),
			port("liveness-probe", 8080, corev1.ProtocolTCP), port("readiness-probe", 8181, corev1.ProtocolTCP),
		},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("70Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("170Mi")},
		},
		LivenessProbe:  &corev1.Probe{ProbeHandler: check("/health", 8080), InitialDelaySeconds: 60, TimeoutSeconds: 5, SuccessThreshold: 1, FailureThreshold: 5},
		ReadinessProbe: &corev1.Probe{ProbeHandler: check("/ready", 8181)},
		VolumeMounts:   []corev1.VolumeMount{{Name: "config-volume", MountPath: "/etc/coredns", ReadOnly: true}},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
			Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_BIND_SERVICE"}, Drop: []corev1.Capability{"ALL"}},
		},
	}
}

// image is repository/name:tag, with the parts that the user overrides, each on its own.
func image(spec *kamajiv1alpha1.AddonSpec, repository, name, tag string) string {
	if spec.ImageRepository != "" {
		repository = strings.TrimSuffix(spec.ImageRepository, "/")
	}
	if spec.ImageTag != "" {
		tag = spec.ImageTag
	}
	return repository + "/" + name + ":" + tag
}
