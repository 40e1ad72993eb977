// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"fmt"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// leaders has pods go, of which one led: what it held can be taken at once, and what others hold stays theirs.
func (w *world) leaders(t *testing.T) {
	inside := w.access(t, name, "super-admin.svc")
	pod := func(name string) *corev1.Pod {
		template := w.deployment(t, key.Name).Spec.Template
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name, Labels: template.Labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "any", Image: "any"}}},
		}
	}
	lease := func(name, holder string) {
		t.Helper()
		now := metav1.NowMicro()
		created := &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: name},
			Spec: coordinationv1.LeaseSpec{
				HolderIdentity: &holder, LeaseDurationSeconds: ptr.To(int32(3600)), AcquireTime: &now, RenewTime: &now, LeaseTransitions: ptr.To(int32(4)),
			},
		}
		if err := inside.Create(t.Context(), created); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = inside.Delete(context.Background(), created) })
	}
	holder := func(ctx context.Context, name string) string {
		have := &coordinationv1.Lease{}
		if err := inside.Get(ctx, types.NamespacedName{Namespace: metav1.NamespaceSystem, Name: name}, have); err != nil {
			return err.Error()
		}
		if *have.Spec.LeaseTransitions != 4 {
			return fmt.Sprintf("transitions became %d", *have.Spec.LeaseTransitions)
		}
		return *have.Spec.HolderIdentity
	}
	const led, follows = "customer1-65d9-aaaaa_0b6d", "customer1-65d9-bbbbb_7c1f"
	lease("kube-controller-manager", led)
	lease("kube-scheduler", follows)
	first, second := pod("customer1-65d9-aaaaa"), pod("customer1-65d9-bbbbb")
	w.create(t, first, second)
	end := func(p *corev1.Pod) {
		t.Helper()
		if err := w.client.Delete(t.Context(), p, client.GracePeriodSeconds(0)); err != nil {
			t.Fatal(err)
		}
	}
	end(first)
	w.eventually(t, func(ctx context.Context) string {
		if have := holder(ctx, "kube-controller-manager"); have != "" {
			return fmt.Sprintf("kube-controller-manager is held by %q, which has gone", have)
		}
		return ""
	})
	if have := holder(t.Context(), "kube-scheduler"); have != follows {
		t.Errorf("the pod that is left held kube-scheduler; now its holder is %q", have)
	}
	end(second)
	w.eventually(t, func(ctx context.Context) string {
		if have := holder(ctx, "kube-scheduler"); have != "" {
			return fmt.Sprintf("kube-scheduler is held by %q, which has gone", have)
		}
		return ""
	})
}
