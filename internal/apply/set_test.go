// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// Controllers of Kubernetes copy the labels of a Service, that of the set too, to objects of their own.
func TestPruneLeavesWhatControllersMade(t *testing.T) {
	member := func(name string, annotations map[string]string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "kube-system", Name: name, Labels: map[string]string{SetLabel: "ours"}, Annotations: annotations}
	}
	applied := map[string]string{HashAnnotationPrefix + "kamaji": "0123"}
	kept := &corev1.Service{ObjectMeta: member("kube-dns", applied)}
	former := &corev1.Service{ObjectMeta: member("former", applied)}
	slice := &discoveryv1.EndpointSlice{ObjectMeta: member("kube-dns-abcde", map[string]string{"endpoints.kubernetes.io/last-change-trigger-time": "now"})}
	c := fake.NewClientBuilder().WithObjects(kept, former, slice).Build()
	w := &Writer{Client: c, Owner: "kamaji"}
	set := Set{Name: "ours", Lists: []client.ObjectList{&corev1.ServiceList{}, &discoveryv1.EndpointSliceList{}}}
	if removed, err := w.Prune(t.Context(), set, []client.Object{kept}); err != nil || !removed {
		t.Fatalf("removed: %v, %v", removed, err)
	}
	for _, obj := range []client.Object{kept, slice} {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
			t.Errorf("it should have stayed: %v", err)
		}
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(former), former); !apierrors.IsNotFound(err) {
		t.Errorf("a member that is no longer wanted: %v", err)
	}
}
