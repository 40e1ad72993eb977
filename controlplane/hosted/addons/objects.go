// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

const (
	system   = metav1.NamespaceSystem
	registry = kamajiv1alpha1.DefaultRegistry
)

// Objects is the complete set of objects of the enabled addons, and the address
// behind the Service default/kubernetes. Only DefaultCorefile is not in it. The
// error is a network range that can't be parsed.
func Objects(in Input) ([]client.Object, error) {
	out := kubernetesService(in)
	if in.Tenant.Spec.Addons.CoreDNS != nil {
		objects, err := coreDNS(in)
		if err != nil {
			return nil, fmt.Errorf("CoreDNS: %w", err)
		}
		out = append(out, objects...)
	}
	if in.Tenant.Spec.Addons.KubeProxy != nil {
		objects, err := kubeProxy(in)
		if err != nil {
			return nil, fmt.Errorf("kube-proxy: %w", err)
		}
		out = append(out, objects...)
	}
	if in.Tenant.Spec.Addons.Konnectivity != nil {
		objects, err := konnectivity(in)
		if err != nil {
			return nil, fmt.Errorf("konnectivity: %w", err)
		}
		out = append(out, objects...)
	}
	return out, nil
}

// Kinds has an empty list for each kind of object that Objects may hold, for pruning.
func Kinds() []client.ObjectList {
	return []client.ObjectList{
		&appsv1.DaemonSetList{}, &appsv1.DeploymentList{},
		&corev1.ConfigMapList{}, &corev1.EndpointsList{}, &corev1.ServiceAccountList{}, &corev1.ServiceList{}, //nolint:staticcheck // see kubernetesService
		&discoveryv1.EndpointSliceList{},
		&rbacv1.ClusterRoleList{}, &rbacv1.ClusterRoleBindingList{}, &rbacv1.RoleList{}, &rbacv1.RoleBindingList{},
	}
}

// Remainder selects objects that neither the engine nor anybody it can ask has
// written, and that mean nothing any more.
type Remainder struct {
	Kind      client.Object
	Namespace string
	Labels    map[string]string
}

// Remains is what addons that are not enabled may have left behind.
func Remains(in Input) []Remainder {
	if in.Tenant.Spec.Addons.Konnectivity != nil {
		return nil
	}
	// Servers delete their own when they stop, unless their permission has gone first.
	return []Remainder{{Kind: &coordinationv1.Lease{}, Namespace: KonnectivityNamespace, Labels: map[string]string{"k8s-app": "konnectivity-server"}}}
}

func serviceAccount(name string) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: system},
	}
}

func configMap(name string, labels, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: system, Labels: labels},
		Data:       data,
	}
}

func clusterRole(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Rules:      rules,
	}
}

func clusterRoleBinding(name, role string, subject rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{subject},
	}
}

// role returns a Role in kube-system and its binding of the same name.
func role(name string, subject rbacv1.Subject, rules ...rbacv1.PolicyRule) []client.Object {
	meta := metav1.ObjectMeta{Name: name, Namespace: system}
	return []client.Object{
		&rbacv1.Role{
			TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "Role"},
			ObjectMeta: meta,
			Rules:      rules,
		},
		&rbacv1.RoleBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "RoleBinding"},
			ObjectMeta: meta,
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
			Subjects:   []rbacv1.Subject{subject},
		},
	}
}

func account(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: system}
}

func user(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}
}
