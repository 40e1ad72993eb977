// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"fmt"
	"net"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/remote"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// versions lists objects as kind, namespace and name with their resourceVersion.
func versions(t *testing.T, c client.Client, lists []client.ObjectList, options ...client.ListOption) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, list := range lists {
		if err := c.List(t.Context(), list, options...); err != nil {
			t.Fatal(err)
		}
		items, err := meta.ExtractList(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range items {
			o := item.(client.Object)
			out[fmt.Sprintf("%T/%s/%s", o, o.GetNamespace(), o.GetName())] = o.GetResourceVersion()
		}
	}
	return out
}

// objects are all objects of a tenant in the management cluster.
func (w *world) objects(t *testing.T, name string) map[string]string {
	t.Helper()
	return versions(t, w.client, desired.Kinds(false), client.InNamespace(system), client.MatchingLabels{kamajiv1alpha1.NameLabel: name})
}

// inside are the objects in a tenant, of the kinds that the engine manages.
func (w *world) inside(t *testing.T, name string) map[string]string {
	t.Helper()
	return versions(t, w.access(t, name, "super-admin.svc"), []client.ObjectList{
		&corev1.ConfigMapList{}, &corev1.ServiceList{}, &corev1.ServiceAccountList{}, &appsv1.DaemonSetList{}, &appsv1.DeploymentList{},
		&discoveryv1.EndpointSliceList{}, &corev1.EndpointsList{}, //nolint:staticcheck // what old clients read
		&rbacv1.ClusterRoleList{}, &rbacv1.ClusterRoleBindingList{}, &rbacv1.RoleList{}, &rbacv1.RoleBindingList{},
	})
}

// address is the one of a tenant's Service.
func (w *world) address(t *testing.T, name string) string {
	t.Helper()
	service := &corev1.Service{}
	if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: system, Name: name}, service); err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[0].Port)))
}

// access is a client for a tenant, with one of its admin kubeconfigs.
func (w *world) access(t *testing.T, name, kubeconfig string) client.Client {
	t.Helper()
	secret := &corev1.Secret{}
	if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: system, Name: name + "-admin-kubeconfig"}, secret); err != nil {
		t.Fatal(err)
	}
	pool := &remote.Pool{Dial: w.kubelet.dial}
	tn, err := pool.Tenant(types.NamespacedName{Namespace: system, Name: name}, secret.Data[kubeconfig], w.address(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return tn.Client
}

// settled runs a pass of an engine that remembers nothing, and expects no write.
func (w *world) settled(t *testing.T, name string) {
	t.Helper()
	before, tenantBefore := w.objects(t, name), w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	inside := w.inside(t, name)
	if _, err := w.engine().Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(tenantBefore)}); err != nil {
		t.Fatal(err)
	}
	after := w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	if diff := cmp.Diff(before, w.objects(t, name)); diff != "" {
		t.Errorf("written in the management cluster:\n%s", diff)
	}
	if diff := cmp.Diff(inside, w.inside(t, name)); diff != "" {
		t.Errorf("written in the tenant:\n%s", diff)
	}
	if tenantBefore.ResourceVersion != after.ResourceVersion {
		t.Errorf("the status was patched:\n%s", cmp.Diff(tenantBefore, after))
	}
}
