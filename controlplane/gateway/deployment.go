// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/bootstrap"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

const (
	// GatewayLabel on leases and on the data plane's objects names their KamajiGateway.
	GatewayLabel = "controlplane.cluster.x-k8s.io/kamaji-gateway"
	// DefaultXDSIssuer is the cert-manager Issuer in the manager's namespace that signs both sides of the xDS connection.
	DefaultXDSIssuer = "kamaji-xds-ca"
	// DefaultFirstTenantPort and DefaultLastTenantPort are the range of tenant ports of a gateway that names none.
	DefaultFirstTenantPort, DefaultLastTenantPort int32 = 10000, 29999

	container    = "kamaji-gateway"
	configDir    = "/etc/kamaji-gateway"
	configFile   = "bootstrap.yaml"
	tlsDir       = "/etc/kamaji-gateway-tls"
	stateDir     = "/var/lib/kamaji-gateway"
	stateVolume  = "state"
	healthPort   = 9902
	user         = 65532
	drainSeconds = 50
	graceSeconds = 60
	// minReadySeconds is for how long a new pod must be ready before the old one ends.
	minReadySeconds = 5
	certLifetime    = 90 * 24 * time.Hour
	renewalMargin   = 30 * 24 * time.Hour
)

var certificateKind = schema.GroupVersionKind{Group: "cert-manager.io", Version: "v1", Kind: "Certificate"}

// placement is where the data plane of gateways runs and what it connects to.
type placement struct {
	namespace, image, xdsAddress, issuer string
}

// dataPlane is every object that the gateway needs in the manager's namespace. For an External data plane that is only the certificate,
// which somebody else has to take there.
func dataPlane(g *v1alpha2.KamajiGateway, p placement) ([]client.Object, error) {
	certificate := xdsCertificate(g, p)
	if !deployed(g) {
		return []client.Object{certificate}, nil
	}
	ds := daemonSet(g, p)
	var config *corev1.ConfigMap
	var err error
	if g.Spec.DataPlane.Type == v1alpha2.DataPlaneEnvoy {
		config, err = withEnvoy(ds, g, p)
	} else {
		config, err = revise(ds, bootstrapConfig(g, p))
	}
	if err != nil {
		return nil, err
	}
	return []client.Object{certificate, config, ds, disruptionBudget(g, p)}, nil
}

// deployed tells whether this project runs the gateway's data plane.
func deployed(g *v1alpha2.KamajiGateway) bool {
	return g.Spec.DataPlane.Placement != v1alpha2.PlacementExternal
}

func dataPlaneName(gateway string) string { return "kamaji-gateway-" + gateway }

// xdsSecretName is the Secret with the data plane's client certificate (tls.crt, tls.key, ca.crt).
func xdsSecretName(gateway string) string { return dataPlaneName(gateway) + "-xds" }

func objectMeta(g *v1alpha2.KamajiGateway, p placement) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: dataPlaneName(g.Name), Namespace: p.namespace, Labels: dataPlaneLabels(g),
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(g, v1alpha2.GroupVersion.WithKind("KamajiGateway"))},
	}
}

func dataPlaneLabels(g *v1alpha2.KamajiGateway) map[string]string {
	return map[string]string{"app.kubernetes.io/name": container, GatewayLabel: g.Name}
}

// bootstrapConfig is what data planes start from. It lacks what revise adds.
func bootstrapConfig(g *v1alpha2.KamajiGateway, p placement) bootstrap.Config {
	return bootstrap.Config{
		Node: bootstrap.Node{Gateway: g.Name},
		XDS: bootstrap.XDS{
			Address: p.xdsAddress,
			CAFile:  tlsDir + "/ca.crt", CertFile: tlsDir + "/tls.crt", KeyFile: tlsDir + "/tls.key",
		},
		StateDir:       stateDir,
		DrainSeconds:   ptr.To(drainSeconds),
		HandoverSocket: bootstrap.HandoverSocket(g.Name),
	}
}

// revise completes the DaemonSet with what differs between versions of its pods, and returns the ConfigMap that they mount.
func revise(ds *appsv1.DaemonSet, config bootstrap.Config) (*corev1.ConfigMap, error) {
	v, err := versionOf(ds, config)
	if err != nil {
		return nil, err
	}
	v.name(ds)
	pod := &ds.Spec.Template.Spec.Containers[0]
	for _, probe := range []*corev1.Probe{pod.ReadinessProbe, pod.LivenessProbe} {
		probe.HTTPGet.Host = v.address
	}
	config.HealthAddress = net.JoinHostPort(v.address, strconv.Itoa(healthPort))
	data, err := config.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encoding the bootstrap file: %w", err)
	}
	return v.configMap(ds, map[string]string{configFile: string(data)}), nil
}

// version is what pods made from one template and configuration have of their own. While pods are replaced the old and the new one run
// side by side on a node, in its network namespace. So each version has its own health address, and a ConfigMap of its own that
// names it. The address is on loopback, so that nobody outside the node sees metrics; all of 127.0.0.0/8 is local.
type version struct{ config, address string }

func versionOf(ds *appsv1.DaemonSet, config any) (version, error) {
	data, err := json.Marshal([]any{ds.Name, ds.Spec.Template, config})
	if err != nil {
		return version{}, fmt.Errorf("hashing the pods of DaemonSet %s: %w", ds.Name, err)
	}
	sum := sha256.Sum256(data)
	return version{
		config:  ds.Name + "-" + hex.EncodeToString(sum[:5]),
		address: netip.AddrFrom4([4]byte{127, 1 + sum[0]%254, sum[1], 1 + sum[2]%254}).String(),
	}, nil
}

// name has the pods mount the version's ConfigMap.
func (v version) name(ds *appsv1.DaemonSet) {
	for _, volume := range ds.Spec.Template.Spec.Volumes {
		if volume.ConfigMap != nil {
			volume.ConfigMap.Name = v.config
		}
	}
}

func (v version) configMap(ds *appsv1.DaemonSet, data map[string]string) *corev1.ConfigMap {
	meta := *ds.ObjectMeta.DeepCopy()
	meta.Name = v.config
	return &corev1.ConfigMap{ObjectMeta: meta, Data: data}
}

// xdsCertificate asks cert-manager for the client certificate that proves which gateway a data plane belongs to.
func xdsCertificate(g *v1alpha2.KamajiGateway, p placement) *unstructured.Unstructured {
	c := &unstructured.Unstructured{Object: map[string]any{
		"spec": map[string]any{
			"secretName":  xdsSecretName(g.Name),
			"commonName":  dataPlaneName(g.Name),
			"uris":        []any{route.Identity(g.Name)},
			"usages":      []any{"client auth", "digital signature"},
			"duration":    certLifetime.String(),
			"renewBefore": renewalMargin.String(),
			"privateKey":  map[string]any{"algorithm": "ECDSA", "size": int64(256), "rotationPolicy": "Always"},
			"issuerRef":   map[string]any{"group": certificateKind.Group, "kind": "Issuer", "name": p.issuer},
		},
	}}
	c.SetGroupVersionKind(certificateKind)
	meta := objectMeta(g, p)
	c.SetName(meta.Name)
	c.SetNamespace(meta.Namespace)
	c.SetLabels(meta.Labels)
	c.SetOwnerReferences(meta.OwnerReferences)
	return c
}

// daemonSet still lacks what revise adds. A new pod starts before the old one ends, which then drains: data planes share their
// listening sockets, and declare no ports, which would keep the two from one node.
func daemonSet(g *v1alpha2.KamajiGateway, p placement) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{
		ObjectMeta: objectMeta(g, p),
		Spec: appsv1.DaemonSetSpec{
			Selector:        &metav1.LabelSelector{MatchLabels: dataPlaneLabels(g)},
			MinReadySeconds: minReadySeconds,
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
				Type:          appsv1.RollingUpdateDaemonSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: ptr.To(intstr.FromInt32(0)), MaxSurge: ptr.To(intstr.FromInt32(1))},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: dataPlaneLabels(g)},
				Spec:       podSpec(g, p),
			},
		},
	}
}

func podSpec(g *v1alpha2.KamajiGateway, p placement) corev1.PodSpec {
	selector := map[string]string{corev1.LabelOSStable: "linux"}
	for key, value := range g.Spec.DataPlane.NodeSelector {
		selector[key] = value
	}
	return corev1.PodSpec{
		NodeSelector: selector,
		Tolerations:  g.Spec.DataPlane.Tolerations,
		// The addresses are the node's. Cluster DNS is still needed to find the xDS server.
		HostNetwork:                   true,
		DNSPolicy:                     corev1.DNSClusterFirstWithHostNet,
		AutomountServiceAccountToken:  ptr.To(false),
		EnableServiceLinks:            ptr.To(false),
		PriorityClassName:             "system-cluster-critical",
		TerminationGracePeriodSeconds: ptr.To[int64](graceSeconds),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](user), RunAsGroup: ptr.To[int64](user), FSGroup: ptr.To[int64](user),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []corev1.Container{gatewayContainer(g, p)},
		Volumes: []corev1.Volume{
			{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				DefaultMode: ptr.To[int32](0o444),
			}}},
			{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
				SecretName: xdsSecretName(g.Name), DefaultMode: ptr.To[int32](0o440),
			}}},
			// Outlives restarts of the container and of the node, not the pod: a new pod is only made where the API server answers,
			// and then xDS does, too.
			{Name: stateVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		},
	}
}

func gatewayContainer(g *v1alpha2.KamajiGateway, p placement) corev1.Container {
	image := g.Spec.DataPlane.Image
	if image == "" {
		image = p.image
	}
	probe := func(path string, period, failures int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Port: intstr.FromInt32(healthPort), Path: path, Scheme: corev1.URISchemeHTTP,
			}},
			PeriodSeconds: period, FailureThreshold: failures, TimeoutSeconds: 2, SuccessThreshold: 1,
		}
	}
	args := []string{"--bootstrap=" + configDir + "/" + configFile}
	var env []corev1.EnvVar
	if port := g.Spec.DataPlane.MetricsPort; port != nil {
		// On the node's own address: the gateway's are for others than Prometheus.
		args = append(args, fmt.Sprintf("--metrics-address=[$(NODE_ADDRESS)]:%d", *port))
		env = []corev1.EnvVar{{Name: "NODE_ADDRESS", ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.hostIP"},
		}}}
	}
	return corev1.Container{
		Name: container, Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
		Args:           args,
		Env:            env,
		ReadinessProbe: probe("/readyz", 2, 2),
		LivenessProbe:  probe("/healthz", 10, 6),
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
		}},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true), RunAsNonRoot: ptr.To(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		VolumeMounts: []corev1.VolumeMount{
			{Name: "config", MountPath: configDir, ReadOnly: true},
			{Name: "tls", MountPath: tlsDir, ReadOnly: true},
			{Name: stateVolume, MountPath: stateDir},
		},
	}
}

// disruptionBudget keeps evictions from taking the last instance. It counts in absolute numbers, because a DaemonSet has no scale.
func disruptionBudget(g *v1alpha2.KamajiGateway, p placement) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: objectMeta(g, p),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: ptr.To(intstr.FromInt32(1)),
			Selector:     &metav1.LabelSelector{MatchLabels: dataPlaneLabels(g)},
		},
	}
}
