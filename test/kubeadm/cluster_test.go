// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// kinds of objects that kubeadm makes. Tokens (Secrets) are the business of who adds nodes.
var kinds = []schema.GroupVersionKind{
	{Version: "v1", Kind: "ConfigMap"}, {Version: "v1", Kind: "Service"}, {Version: "v1", Kind: "ServiceAccount"},
	{Group: "apps", Version: "v1", Kind: "DaemonSet"}, {Group: "apps", Version: "v1", Kind: "Deployment"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"}, {Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRoleBinding"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "Role"}, {Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "RoleBinding"},
}

// cluster is an API server without controllers, which first kubeadm and then the engine configure.
type cluster struct {
	config *rest.Config
	client client.Client
	// own are the objects that the API server makes itself, by name.
	own map[string]bool
}

// name of an object in messages and in the table of differences.
func name(object *unstructured.Unstructured) string {
	return strings.Join(strings.Fields(object.GetKind()+" "+object.GetNamespace()+" "+object.GetName()), " ")
}

// last is what the API server makes last.
const last = "Service default kubernetes"

// learn waits for what the API server makes itself.
func (c *cluster) learn(t *testing.T) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 2*time.Minute, true, func(context.Context) (bool, error) {
		for _, object := range c.all(t) {
			c.own[name(object)] = true
		}
		return c.own[last], nil
	})
	if err != nil {
		t.Fatalf("the API server doesn't make the %s: %v", last, err)
	}
}

// all is what there is but for the API server's own, in the order of kinds and names.
func (c *cluster) all(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for _, kind := range kinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		if err := c.client.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		of := []*unstructured.Unstructured{}
		for i := range list.Items {
			if !c.own[name(&list.Items[i])] {
				of = append(of, &list.Items[i])
			}
		}
		slices.SortFunc(of, func(a, b *unstructured.Unstructured) int { return strings.Compare(name(a), name(b)) })
		out = append(out, of...)
	}
	return out
}

// taken reads all objects, without what is different each time, and removes them.
func (c *cluster) taken(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	out := c.all(t)
	for _, object := range out {
		if err := c.client.Delete(context.WithoutCancel(t.Context()), object.DeepCopy()); err != nil {
			t.Fatal(err)
		}
		for _, field := range []string{"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"} {
			unstructured.RemoveNestedField(object.Object, "metadata", field)
		}
		unstructured.RemoveNestedField(object.Object, "status")
		// What the API server counts, and what the engine notes about its own writing.
		for _, annotation := range []string{"deprecated.daemonset.template.generation", "apply.kamaji.clastix.io/kamaji"} {
			unstructured.RemoveNestedField(object.Object, "metadata", "annotations", annotation)
		}
		if len(object.GetAnnotations()) == 0 {
			unstructured.RemoveNestedField(object.Object, "metadata", "annotations")
		}
	}
	return out
}
