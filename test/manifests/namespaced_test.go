// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// rights are what rules allow, one line for each group, resource and verb.
func rights(of []rbacv1.PolicyRule) map[string]bool {
	out := map[string]bool{}
	for _, rule := range of {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					out[fmt.Sprintf("%s %s.%s", verb, resource, group)] = true
				}
			}
		}
	}
	return out
}

// The manager of one namespace has the rights of the other, and each only where it is needed.
func TestNamespaced(t *testing.T) {
	wide, err := providers[0].components()
	if err != nil {
		t.Fatal(err)
	}
	text, err := build("config/controlplane/namespaced")
	if err != nil {
		t.Fatal(err)
	}
	objects, err := expand([]byte(text), map[string]string{"KAMAJI_NAMESPACE": "team-a"})
	if err != nil {
		t.Fatal(err)
	}
	find := func(objects []*unstructured.Unstructured, kind, namespace, name string) *unstructured.Unstructured {
		t.Helper()
		for _, o := range objects {
			if o.GetKind() == kind && o.GetNamespace() == namespace && o.GetName() == name {
				return o
			}
		}
		t.Fatalf("no %s %s/%s", kind, namespace, name)
		return nil
	}
	cluster := rights(rules(t, find(objects, "ClusterRole", "", "kamaji-manager")))
	tenants := rights(rules(t, find(objects, "Role", "team-a", "kamaji-tenants")))
	for right := range rights(rules(t, find(wide, "ClusterRole", "", "kamaji-manager"))) {
		left := slices.Contains([]string{
			"get nodes.", "list nodes.", "watch nodes.", "get namespaces.", "list namespaces.", "watch namespaces.",
		}, right)
		if here := cluster[right] || tenants[right]; here == left {
			t.Errorf("%q: given is %t, although it is needed: %t", right, here, !left)
		}
		delete(tenants, right)
		if !left && cluster[right] {
			delete(cluster, right)
		}
	}
	if diff := cmp.Diff([]map[string]bool{{}, {}}, []map[string]bool{cluster, tenants}); diff != "" {
		t.Errorf("rights that the manager of all namespaces doesn't have (-want +have):\n%s", diff)
	}
	for _, secret := range []string{"create", "delete", "patch"} {
		if rights(rules(t, find(objects, "Role", "kamaji-system", "kamaji-datastores")))[secret+" secrets."] {
			t.Errorf("the manager may %s Secrets beside its own", secret)
		}
	}
	containers, _, err := unstructured.NestedSlice(find(objects, "Deployment", "kamaji-system", "kamaji-controller-manager").Object, "spec", "template", "spec", "containers")
	if err != nil || len(containers) != 1 {
		t.Fatalf("%d containers, %v", len(containers), err)
	}
	args, _, err := unstructured.NestedStringSlice(containers[0].(map[string]any), "args")
	if err != nil || !slices.Contains(args, "--namespace=team-a") {
		t.Errorf("arguments %v, %v", args, err)
	}
	for _, o := range objects {
		if o.GetLabels()["cluster.x-k8s.io/provider"] != providers[0].label {
			t.Errorf("%s %s has no provider label, so clusterctl doesn't know it", o.GetKind(), o.GetName())
		}
	}
}
