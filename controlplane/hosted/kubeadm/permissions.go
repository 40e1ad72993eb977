// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// clusterAdmins is the group of the admin kubeconfig and the binding that gives it its rights.
const clusterAdmins = "kubeadm:cluster-admins"

// Bootstrappers is the group of nodes that join with a token.
func Bootstrappers() rbacv1.Subject { return group("system:bootstrappers:kubeadm:default-node-token") }

// permissions are those that kubeadm gives in its phases upload-config, kubelet
// config, bootstrap-token and admin kubeconfig, under the same names. What the API
// server itself provides (system:…) is only referred to.
func permissions() []client.Object {
	nodes := group("system:nodes")
	get := func(resource, name string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{resource}, ResourceNames: []string{name}, Verbs: []string{"get"}}
	}
	out := []client.Object{
		// A joining node checks that no other node has its name.
		&rbacv1.ClusterRole{
			TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
			ObjectMeta: metav1.ObjectMeta{Name: "kubeadm:get-nodes"},
			Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get"}}},
		},
		binding("kubeadm:get-nodes", "kubeadm:get-nodes", Bootstrappers()),
		// It requests a certificate, which is approved without a person, and renewed.
		binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", Bootstrappers()),
		binding("kubeadm:node-autoapprove-bootstrap", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", Bootstrappers()),
		binding("kubeadm:node-autoapprove-certificate-rotation", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", nodes),
		binding("kubeadm:apiserver-kubelet-client", "system:kubelet-api-admin", rbacv1.Subject{
			Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "kube-apiserver-kubelet-client",
		}),
		binding(clusterAdmins, "cluster-admin", group(clusterAdmins)),
	}
	out = append(out, role(metav1.NamespaceSystem, "kubeadm:nodes-kubeadm-config", get("configmaps", clusterConfigName), Bootstrappers(), nodes)...)
	out = append(out, role(metav1.NamespaceSystem, "kubeadm:kubelet-config", get("configmaps", kubeletConfigName), nodes, Bootstrappers())...)
	// The first thing a node reads, before it can trust or prove anything.
	return append(out, role(metav1.NamespacePublic, "kubeadm:bootstrap-signer-clusterinfo", get("configmaps", bootstrapapi.ConfigMapClusterInfo),
		rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "system:anonymous"})...)
}

func group(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: name}
}

func binding(name, role string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   subjects,
	}
}

// role returns a Role and its binding of the same name.
func role(namespace, name string, rule rbacv1.PolicyRule, subjects ...rbacv1.Subject) []client.Object {
	meta := metav1.ObjectMeta{Name: name, Namespace: namespace}
	return []client.Object{
		&rbacv1.Role{
			TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "Role"},
			ObjectMeta: meta,
			Rules:      []rbacv1.PolicyRule{rule},
		},
		&rbacv1.RoleBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "RoleBinding"},
			ObjectMeta: meta,
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
			Subjects:   subjects,
		},
	}
}
