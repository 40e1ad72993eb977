// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/apis/apiserver/v1beta1"
	"sigs.k8s.io/yaml"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/addons"
)

const (
	konnectivityServerImage = "registry.k8s.io/kas-network-proxy/proxy-server"
	konnectivityPKIVolume   = "konnectivity-pki"
	konnectivityConfVolume  = "konnectivity-server-kubeconfig"
	konnectivityAdminPort   = 8133
	konnectivityHealthPort  = 8134
	konnectivityPort        = "konnectivity"
	konnectivityMetrics     = "konn-metrics"
	konnectivitySocket      = udsPath + "/konnectivity-server.socket"
)

// konnectivityServer runs beside each API server, which reaches it by a socket.
// Agents count servers by their leases, so that scaling changes no argument here.
func konnectivityServer(in Input) corev1.Container {
	tenant, spec := in.Tenant, &in.Tenant.Spec.Addons.Konnectivity.KonnectivityServerSpec
	port := tenant.KonnectivityPort()
	repository := spec.Image
	if repository == "" {
		repository = konnectivityServerImage
	}
	out := corev1.Container{
		Name:            "konnectivity-server",
		Image:           repository + ":" + addons.KonnectivityVersion(tenant, spec.Version),
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{"/proxy-server"},
		Args: arguments(nil, with(metricsFlags(tenant), flags{
			"admin-port":              strconv.Itoa(konnectivityAdminPort),
			"agent-namespace":         addons.KonnectivityNamespace,
			"agent-port":              strconv.Itoa(int(port)),
			"agent-service-account":   addons.KonnectivityAgent,
			"authentication-audience": addons.KonnectivityAudience,
			"cluster-cert":            pkiPath + "/apiserver.crt",
			"cluster-key":             pkiPath + "/apiserver.key",
			"enable-lease-controller": "true",
			"health-port":             strconv.Itoa(konnectivityHealthPort),
			"keepalive-time":          addons.KonnectivityKeepalive,
			"kubeconfig":              confPath + "/konnectivity-server.conf",
			"lease-namespace":         addons.KonnectivityNamespace,
			"logtostderr":             "true",
			"mode":                    "grpc",
			"server-id":               "$(POD_NAME)",
			"server-port":             "0",
			"uds-name":                konnectivitySocket,
		}), spec.ExtraArgs),
		Env: []corev1.EnvVar{{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"},
		}}},
		Ports: []corev1.ContainerPort{{Name: konnectivityPort, ContainerPort: port, Protocol: corev1.ProtocolTCP}},
		// Its own readiness means that an agent is connected, which a tenant without nodes never has. Until it has
		// started, and while it restarts, the pod counts as not ready without a probe.
		LivenessProbe: probe(liveness, corev1.URISchemeHTTP, "/healthz", konnectivityHealthPort),
		StartupProbe:  probe(startup, corev1.URISchemeHTTP, "/healthz", konnectivityHealthPort),
		VolumeMounts: []corev1.VolumeMount{
			{Name: konnectivityPKIVolume, MountPath: pkiPath, ReadOnly: true},
			{Name: konnectivityConfVolume, MountPath: confPath, ReadOnly: true},
			{Name: udsVolume, MountPath: udsPath},
		},
		Lifecycle:       goOn(tunnelDelay),
		SecurityContext: restricted(),
	}
	if tenant.Spec.ControlPlane.Monitoring != nil {
		out.Ports = append(out.Ports, corev1.ContainerPort{Name: konnectivityMetrics, ContainerPort: konnectivityAdminPort, Protocol: corev1.ProtocolTCP})
	}
	out.Resources = resources(out.Name, spec.Resources)
	if spec.SecurityContext != nil {
		out.SecurityContext = spec.SecurityContext
	}
	return out
}

// metricsFlags let metrics be read from outside of the pod; they are on loopback otherwise.
func metricsFlags(tenant *kamajiv1alpha1.TenantControlPlane) flags {
	if tenant.Spec.ControlPlane.Monitoring == nil {
		return nil
	}
	return flags{"admin-bind-address": "0.0.0.0"}
}

// egressConfig makes the API server reach nodes, pods and Services through the tunnel.
func egressConfig(tenant *kamajiv1alpha1.TenantControlPlane) *corev1.ConfigMap {
	data, err := yaml.Marshal(v1beta1.EgressSelectorConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: v1beta1.SchemeGroupVersion.String(), Kind: "EgressSelectorConfiguration"},
		EgressSelections: []v1beta1.EgressSelection{{
			Name: "cluster",
			Connection: v1beta1.Connection{
				ProxyProtocol: v1beta1.ProtocolGRPC,
				Transport:     &v1beta1.Transport{UDS: &v1beta1.UDSTransport{UDSName: konnectivitySocket}},
			},
		}},
	})
	if err != nil {
		// Only values that JSON has no form for can get here, and there are none above.
		panic(err)
	}
	return configMap(tenant, EgressConfig, map[string]string{egressFile: string(data)})
}
