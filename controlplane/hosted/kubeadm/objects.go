// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Names that `kubeadm join` looks for.
const (
	clusterConfigName = "kubeadm-config"
	clusterConfigKey  = "ClusterConfiguration"
	kubeletConfigName = "kubelet-config"
	kubeletConfigKey  = "kubelet"
)

// Objects is the complete set of documents and permissions in the tenant. The error
// is a JSON patch of the user that doesn't apply, or a CA that isn't PEM.
func Objects(in Input) ([]client.Object, error) {
	cluster, err := ClusterConfiguration(in)
	if err != nil {
		return nil, fmt.Errorf("ClusterConfiguration: %w", err)
	}
	kubelet, err := KubeletConfiguration(in)
	if err != nil {
		return nil, fmt.Errorf("KubeletConfiguration: %w", err)
	}
	info, err := clusterInfo(in)
	if err != nil {
		return nil, fmt.Errorf("cluster-info: %w", err)
	}
	out := []client.Object{
		configMap(metav1.NamespaceSystem, clusterConfigName, clusterConfigKey, cluster),
		configMap(metav1.NamespaceSystem, kubeletConfigName, kubeletConfigKey, kubelet),
		configMap(metav1.NamespacePublic, bootstrapapi.ConfigMapClusterInfo, bootstrapapi.KubeConfigKey, info),
	}
	return append(out, permissions()...), nil
}

// clusterInfo is the kubeconfig without a user that a joining node starts from. A
// controller in the tenant adds a signature for each bootstrap token to the
// ConfigMap. kubeadm drops tls-server-name on the way, so it isn't there.
func clusterInfo(in Input) (string, error) {
	if len(in.CACert) == 0 {
		return "", fmt.Errorf("the certificate of the authority is empty")
	}
	data, err := clientcmd.Write(clientcmdapi.Config{Clusters: map[string]*clientcmdapi.Cluster{
		"": {Server: in.Endpoint.Worker.URL(), CertificateAuthorityData: in.CACert},
	}})
	return string(data), err
}

func configMap(namespace, name, key, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Data:       map[string]string{key: value},
	}
}
