// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodes has one join the management cluster, and leave. The tenant's policy follows, although nothing of the tenant changes.
func (w *world) nodes(t *testing.T) {
	const address = "192.0.2.77"
	closed := func(want bool) {
		t.Helper()
		w.eventually(t, func(ctx context.Context) string {
			policy := &networkingv1.NetworkPolicy{}
			if err := w.client.Get(ctx, key, policy); err != nil {
				return err.Error()
			}
			var except []string
			for _, rule := range policy.Spec.Egress {
				for _, to := range rule.To {
					if to.IPBlock != nil {
						except = append(except, to.IPBlock.Except...)
					}
				}
			}
			if slices.Contains(except, address+"/32") != want {
				return fmt.Sprintf("the policy excepts %v", except)
			}
			return ""
		})
	}
	closed(false)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "joins"}}
	w.create(t, node)
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
	if err := w.client.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	closed(true)
	if err := w.client.Delete(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	closed(false)
}
