// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/envoy"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

const (
	// DefaultEnvoyImage is the official image without a shell. Resources are made for its API; 1.34 is the oldest that takes them.
	DefaultEnvoyImage = "docker.io/envoyproxy/envoy:distroless-v1.40.0"

	envoyContainer     = "envoy"
	companionContainer = "companion"
	runDir             = "/run/kamaji-gateway"
	adminSocket        = runDir + "/admin.sock"
	// envoyMemory is what it asks for. What it needs depends on tenants: see envoy.DefaultMaxHeap.
	envoyMemory = "256Mi"
)

// withEnvoy makes Envoy of the DaemonSet's pods, with a companion beside it, and returns the ConfigMap with its configuration. Only the
// companion has a privilege, to redirect tenant ports; it starts first and ends last, as sidecars do.
func withEnvoy(ds *appsv1.DaemonSet, g *v1alpha2.KamajiGateway, p placement) (*corev1.ConfigMap, error) {
	config := envoy.Config{
		Gateway: g.Name, XDSAddress: p.xdsAddress, TLSDir: tlsDir, Dir: configDir, AdminSocket: adminSocket,
	}
	files, err := config.Files()
	if err != nil {
		return nil, fmt.Errorf("making the configuration of Envoy: %w", err)
	}
	image := g.Spec.DataPlane.Image
	if image == "" {
		image = DefaultEnvoyImage
	}
	spec := &ds.Spec.Template.Spec
	spec.Containers = []corev1.Container{envoyProxy(g, image)}
	spec.InitContainers = []corev1.Container{companion(g, p)}
	for i := range spec.Volumes {
		if spec.Volumes[i].Name == stateVolume { // Envoy keeps nothing
			spec.Volumes[i] = corev1.Volume{Name: "run", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}}
		}
	}
	v, err := versionOf(ds, files)
	if err != nil {
		return nil, err
	}
	v.name(ds)
	health := net.JoinHostPort(v.address, strconv.Itoa(healthPort))
	spec.InitContainers[0].Args = append(spec.InitContainers[0].Args, "--health-address="+health)
	spec.Containers[0].Lifecycle.PreStop.HTTPGet.Host = v.address
	for _, probe := range []*corev1.Probe{spec.Containers[0].ReadinessProbe, spec.InitContainers[0].StartupProbe} {
		probe.HTTPGet.Host = v.address
	}
	data := map[string]string{}
	for name, content := range files {
		data[name] = string(content)
	}
	return v.configMap(ds, data), nil
}

func envoyProxy(g *v1alpha2.KamajiGateway, image string) corev1.Container {
	return corev1.Container{
		Name: envoyContainer, Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
		Command: []string{"envoy"},
		// A pod that is replaced runs beside its successor: hot restart, by which processes of one host find each other, is not for that.
		Args: []string{
			"--config-path", configDir + "/" + envoy.BootstrapFile, "--service-node", route.NodeID(g.Name, "$(NODE_NAME)"), "--disable-hot-restart",
		},
		Env: []corev1.EnvVar{{Name: "NODE_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "spec.nodeName"}}}},
		// Envoy ends at once when it is told to.
		Lifecycle:      &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: httpGet("/drain")}},
		ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: httpGet("/readyz")}, PeriodSeconds: 2, FailureThreshold: 2, TimeoutSeconds: 2, SuccessThreshold: 1},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse(envoyMemory),
		}},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true), RunAsNonRoot: ptr.To(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		VolumeMounts: []corev1.VolumeMount{
			{Name: "config", MountPath: configDir, ReadOnly: true},
			{Name: "tls", MountPath: tlsDir, ReadOnly: true},
			{Name: "run", MountPath: runDir},
		},
	}
}

// companion is root to have its one capability, and in Envoy's group to use its administration socket.
func companion(g *v1alpha2.KamajiGateway, p placement) corev1.Container {
	return corev1.Container{
		Name: companionContainer, Image: p.image, ImagePullPolicy: corev1.PullIfNotPresent,
		RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways),
		Args: []string{
			"companion", "--instance=$(POD_NAME)", "--private-address=" + g.Spec.PrivateAddress, "--port=" + strconv.Itoa(int(g.Spec.Port)),
			"--tenant-ports=" + redirected(tenantPorts(g)), "--admin-socket=" + adminSocket, "--drain-seconds=" + strconv.Itoa(drainSeconds),
		},
		Env:          []corev1.EnvVar{{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}}},
		StartupProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: httpGet("/healthz")}, PeriodSeconds: 1, FailureThreshold: 30, TimeoutSeconds: 2, SuccessThreshold: 1},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("5m"), corev1.ResourceMemory: resource.MustParse("32Mi"),
		}},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true), RunAsNonRoot: ptr.To(false), RunAsUser: ptr.To[int64](0), RunAsGroup: ptr.To[int64](user),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN"}},
		},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		VolumeMounts:             []corev1.VolumeMount{{Name: "run", MountPath: runDir}},
	}
}

func httpGet(path string) *corev1.HTTPGetAction {
	return &corev1.HTTPGetAction{Port: intstr.FromInt32(healthPort), Path: path, Scheme: corev1.URISchemeHTTP}
}

// redirected are the ports of a range that tenants can have, as ranges: those of node components stay theirs.
func redirected(r v1alpha2.PortRange) string {
	var out []string
	for _, part := range []v1alpha2.PortRange{{First: r.First, Last: min(r.Last, firstComponentPort-1)}, {First: max(r.First, lastComponentPort+1), Last: r.Last}} {
		if part.First <= part.Last {
			out = append(out, fmt.Sprintf("%d-%d", part.First, part.Last))
		}
	}
	return strings.Join(out, ",")
}
