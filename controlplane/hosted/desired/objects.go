// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeconfig"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

// Workload is the complete set of objects of a tenant in the management cluster:
// Service, Ingress or TLSRoutes, Secrets, ConfigMaps, PodDisruptionBudget,
// NetworkPolicy and Deployment. What is not in it gets deleted.
func Workload(in Input) []client.Object {
	out := append([]client.Object{Service(in.Tenant)}, Published(in.Tenant)...)
	out = append(out, Secrets(in)...)
	out = append(out, kubeadmConfig(in))
	if in.Tenant.KonnectivityPort() != 0 {
		out = append(out, egressConfig(in.Tenant))
	}
	if WriteLimited(in.Tenant) {
		out = append(out, authorizationConfig(in.Tenant))
	}
	if in.Tenant.Replicas() > 1 {
		out = append(out, disruptionBudget(in.Tenant))
	}
	pods := Deployment(in)
	if in.Network != nil {
		out = append(out, networkPolicy(in, &pods.Spec.Template.Spec))
	}
	return append(out, pods)
}

// Kinds has an empty list for each kind of object that Workload may hold, for
// pruning; TLSRoutes only where the management cluster has them.
func Kinds(routes bool) []client.ObjectList {
	out := []client.ObjectList{
		&corev1.ServiceList{}, &corev1.SecretList{}, &corev1.ConfigMapList{}, &policyv1.PodDisruptionBudgetList{}, &appsv1.DeploymentList{},
		&networkingv1.IngressList{}, &networkingv1.NetworkPolicyList{},
	}
	if routes {
		out = append(out, &gatewayv1.TLSRouteList{})
	}
	return out
}

// Secrets are the Secrets of the input as objects, in the order of their names.
func Secrets(in Input) []client.Object {
	out := make([]client.Object, 0, len(in.Secrets))
	for _, suffix := range slices.Sorted(maps.Keys(in.Secrets)) {
		data := in.Secrets[suffix]
		meta := objectMeta(in.Tenant, Name(in.Tenant, suffix), suffix)
		meta.Annotations = map[string]string{kamajiv1alpha1.ChecksumAnnotation: Checksum(data)}
		for annotation, values := range map[string]map[string]string{
			kamajiv1alpha1.RotateAnnotation: in.Rotated, kamajiv1alpha1.RetireAnnotation: in.Retired, kamajiv1alpha1.RetiringSinceAnnotation: in.Since,
		} {
			if value := values[suffix]; value != "" {
				meta.Annotations[annotation] = value
			}
		}
		if suffix == StorageConfig && in.Storage.Name != "" {
			meta.Annotations[kamajiv1alpha1.DataStoreAnnotation] = in.Storage.Name
		}
		kind := corev1.SecretTypeOpaque
		switch suffix {
		case kubeconfig.Admin, kubeconfig.ControllerManager, kubeconfig.Scheduler, kubeconfig.Konnectivity:
			meta.Labels[kamajiv1alpha1.CertificateLifecycleLabel] = kamajiv1alpha1.CertificateLifecycleKubeconfig
		case StorageConfig, pki.ServiceAccount:
			// Nothing in them expires.
		default:
			meta.Labels[kamajiv1alpha1.CertificateLifecycleLabel] = kamajiv1alpha1.CertificateLifecycleX509
		}
		if suffix == pki.Konnectivity || suffix == pki.Metrics {
			kind = corev1.SecretTypeTLS
		}
		out = append(out, &corev1.Secret{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: meta, Type: kind, Data: data,
		})
	}
	return out
}

// MigrationRecord is the ConfigMap that keeps what a migration must not forget.
func MigrationRecord(tenant *kamajiv1alpha1.TenantControlPlane, data map[string]string) *corev1.ConfigMap {
	return configMap(tenant, Migration, data)
}

// kubeadmConfig also has the records about versions. An annotation on the
// Deployment would count as a change of that, and be lost when it is deleted.
func kubeadmConfig(in Input) *corev1.ConfigMap {
	out := configMap(in.Tenant, KubeadmConfig, map[string]string{"ClusterConfiguration": in.ClusterConfiguration})
	for name, value := range map[string]string{ServedVersionAnnotation: in.ServedVersion, FailedVersionAnnotation: in.FailedVersion} {
		if value != "" {
			out.Annotations[name] = value
		}
	}
	return out
}

func configMap(tenant *kamajiv1alpha1.TenantControlPlane, suffix string, data map[string]string) *corev1.ConfigMap {
	meta := objectMeta(tenant, Name(tenant, suffix), suffix)
	meta.Annotations = map[string]string{kamajiv1alpha1.ChecksumAnnotation: Checksum(data)}
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: meta, Data: data,
	}
}

func objectMeta(tenant *kamajiv1alpha1.TenantControlPlane, name, component string) metav1.ObjectMeta {
	owner := metav1.NewControllerRef(tenant, kamajiv1alpha1.GroupVersion.WithKind("TenantControlPlane"))
	return metav1.ObjectMeta{
		Name: name, Namespace: tenant.Namespace,
		Labels:          labels(tenant, component),
		OwnerReferences: []metav1.OwnerReference{*owner},
	}
}

func labels(tenant *kamajiv1alpha1.TenantControlPlane, component string) map[string]string {
	return map[string]string{
		kamajiv1alpha1.ProjectLabel:   kamajiv1alpha1.ProjectLabelValue,
		kamajiv1alpha1.NameLabel:      tenant.Name,
		kamajiv1alpha1.ComponentLabel: component,
	}
}

// Selector is the labels that select the pods of a tenant.
func Selector(tenant *kamajiv1alpha1.TenantControlPlane) map[string]string {
	return map[string]string{kamajiv1alpha1.NameLabel: tenant.Name}
}

// with returns the maps merged; the last one wins.
func with[V any](all ...map[string]V) map[string]V {
	out := map[string]V{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}

// Checksum is 32 hexadecimal digits of SHA-256, short enough for a label value.
// Lengths are part of it, so that no byte can move from one entry to the next.
func Checksum[V string | []byte](data map[string]V) string {
	sum := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(data)) {
		fmt.Fprintf(sum, "%d:%s%d:%s", len(key), key, len(data[key]), data[key])
	}
	return hex.EncodeToString(sum.Sum(nil))[:32]
}
