// SPDX-License-Identifier: Apache-2.0

package provider

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/secret"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
)

// The Secrets that the engine makes for a tenant, by its name; see the engine's documentation of TenantControlPlane.
const (
	adminKubeconfigSuffix = "-admin-kubeconfig"
	caSuffix              = "-ca"
	// defaultKubeconfigKey belongs to kubeadm:cluster-admins, which an administrator can revoke; super-admin.conf can't be.
	defaultKubeconfigKey = "admin.conf"
)

// kubeconfigSecret is <cluster>-kubeconfig with the given kubeconfig, as clusterctl and Cluster API read it.
func kubeconfigSecret(cluster *clusterv1.Cluster, kcp *controlplanev1.KamajiControlPlane, kubeconfig []byte) *corev1.Secret {
	return clusterSecret(cluster, kcp, secret.Kubeconfig, map[string][]byte{secret.KubeconfigDataName: kubeconfig})
}

// caSecret is <cluster>-ca. The bootstrap provider computes the pins of joining workers from tls.crt, and insists on
// a tls.key although it never uses it for workers.
func caSecret(cluster *clusterv1.Cluster, kcp *controlplanev1.KamajiControlPlane, certificate, key []byte) *corev1.Secret {
	return clusterSecret(cluster, kcp, secret.ClusterCA, map[string][]byte{secret.TLSCrtDataName: certificate, secret.TLSKeyDataName: key})
}

// sharedCASecret marks the engine's own Secret as that of the Cluster, where both have one name: only a label is added.
func sharedCASecret(cluster *clusterv1.Cluster, namespace string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Name:      secret.Name(cluster.Name, secret.ClusterCA),
		Namespace: namespace,
		Labels:    map[string]string{clusterv1.ClusterNameLabel: cluster.Name},
	}}
}

func clusterSecret(cluster *clusterv1.Cluster, kcp *controlplanev1.KamajiControlPlane, purpose secret.Purpose, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:      secret.Name(cluster.Name, purpose),
			Namespace: kcp.Namespace,
			Labels: map[string]string{
				clusterv1.ClusterNameLabel:  cluster.Name,
				kamajiv1alpha1.ProjectLabel: kamajiv1alpha1.ProjectLabelValue,
			},
			OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(kcp, controlplanev1.GroupVersion.WithKind("KamajiControlPlane")),
			},
		},
		Type: clusterv1.ClusterSecretType,
		Data: data,
	}
}
