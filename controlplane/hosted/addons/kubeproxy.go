// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	proxyv1alpha1 "k8s.io/kube-proxy/config/v1alpha1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeadm"
)

const (
	kubeProxyName = "kube-proxy"
	kubeProxyPath = "/var/lib/kube-proxy"

	// configHash of a pod template rolls the pods when their configuration changes.
	configHash = "kamaji.clastix.io/config-hash"
)

func kubeProxy(in Input) ([]client.Object, error) {
	config, err := kubeProxyConfig(in)
	if err != nil {
		return nil, err
	}
	conf, err := podKubeconfig(in.Endpoint.Worker)
	if err != nil {
		return nil, err
	}
	// kubeadm reads the ConfigMap with this name and key when a node joins.
	data := map[string]string{"config.conf": config, "kubeconfig.conf": conf}
	out := []client.Object{
		serviceAccount(kubeProxyName),
		clusterRoleBinding("kubeadm:node-proxier", "system:node-proxier", account(kubeProxyName)),
		configMap(kubeProxyName, map[string]string{"app": kubeProxyName}, data),
		kubeProxyDaemonSet(in, data),
	}
	return append(out, role(kubeProxyName, kubeadm.Bootstrappers(), rbacv1.PolicyRule{
		APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{kubeProxyName}, Verbs: []string{"get"},
	})...), nil
}

func kubeProxyConfig(in Input) (string, error) {
	bind := "0.0.0.0"
	primary := in.Tenant.ServiceCIDRs()[0]
	prefix, err := netip.ParsePrefix(strings.TrimSpace(primary))
	if err != nil {
		return "", fmt.Errorf("range of Service addresses: %w", err)
	}
	if prefix.Addr().Is6() {
		bind = "::"
	}
	config := proxyv1alpha1.KubeProxyConfiguration{
		TypeMeta:    metav1.TypeMeta{APIVersion: proxyv1alpha1.SchemeGroupVersion.String(), Kind: "KubeProxyConfiguration"},
		BindAddress: bind,
		ClusterCIDR: strings.Join(in.Tenant.PodCIDRs(), ","),
		// The size of the connection table is the host's business. A node that is
		// itself a container may not even be able to change it, and kube-proxy
		// would give up.
		Conntrack: proxyv1alpha1.KubeProxyConntrackConfiguration{MaxPerCore: ptr.To[int32](0), Min: ptr.To[int32](0)},
	}
	config.ClientConnection.Kubeconfig = kubeProxyPath + "/kubeconfig.conf"
	return kubeadm.Document(config)
}

// podKubeconfig uses the files that every pod with a ServiceAccount has.
func podKubeconfig(server endpoint.Server) (string, error) {
	const name, files = "default", "/var/run/secrets/kubernetes.io/serviceaccount"
	data, err := clientcmd.Write(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{name: {
			Server: server.URL(), TLSServerName: server.ServerName, CertificateAuthority: files + "/ca.crt",
		}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {TokenFile: files + "/token"}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name, Namespace: metav1.NamespaceDefault}},
		CurrentContext: name,
	})
	return string(data), err
}

func kubeProxyDaemonSet(in Input, data map[string]string) *appsv1.DaemonSet {
	labels := func() map[string]string { return map[string]string{"k8s-app": kubeProxyName} }
	hostPath := func(name, path string, kind corev1.HostPathType) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: ptr.To(kind)}}}
	}
	return &appsv1.DaemonSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"},
		ObjectMeta: metav1.ObjectMeta{Name: kubeProxyName, Namespace: system, Labels: labels()},
		Spec: appsv1.DaemonSetSpec{
			Selector:       &metav1.LabelSelector{MatchLabels: labels()},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels(), Annotations: map[string]string{configHash: hash(data)}},
				Spec: corev1.PodSpec{
					PriorityClassName:  "system-node-critical",
					ServiceAccountName: kubeProxyName,
					HostNetwork:        true,
					NodeSelector:       map[string]string{corev1.LabelOSStable: "linux"},
					Tolerations:        []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
					Containers: []corev1.Container{{
						Name:            kubeProxyName,
						Image:           image(in.Tenant.Spec.Addons.KubeProxy, registry, kubeProxyName, in.Tenant.KubernetesVersion()),
						ImagePullPolicy: corev1.PullIfNotPresent,
						Command:         []string{"/usr/local/bin/kube-proxy", "--config=" + kubeProxyPath + "/config.conf", "--hostname-override=$(NODE_NAME)"},
						Env: []corev1.EnvVar{{Name: "NODE_NAME", ValueFrom: &corev1.EnvVarSource{
							FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "spec.nodeName"},
						}}},
						SecurityContext: &corev1.SecurityContext{Privileged: ptr.To(true)},
						VolumeMounts: []corev1.VolumeMount{
							{Name: kubeProxyName, MountPath: kubeProxyPath},
							{Name: "xtables-lock", MountPath: "/run/xtables.lock"},
							{Name: "lib-modules", MountPath: "/lib/modules", ReadOnly: true},
						},
					}},
					Volumes: []corev1.Volume{
						{Name: kubeProxyName, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
							LocalObjectReference: corev1.LocalObjectReference{Name: kubeProxyName},
						}}},
						hostPath("xtables-lock", "/run/xtables.lock", corev1.HostPathFileOrCreate),
						hostPath("lib-modules", "/lib/modules", corev1.HostPathUnset),
					},
				},
			},
		},
	}
}

// hash is 32 hexadecimal digits of SHA-256 over the text form of a map, in which Go
// sorts the keys and quotes keys and values.
func hash(data map[string]string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", data))
	return hex.EncodeToString(sum[:])[:32]
}
