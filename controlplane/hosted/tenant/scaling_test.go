// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// scale sets the replicas of the tenant like an autoscaler and waits until the
// Deployment has them.
func (w *world) scale(t *testing.T, replicas int32) {
	t.Helper()
	tn := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name}}
	w.eventually(t, func(ctx context.Context) string {
		wanted := &autoscalingv1.Scale{}
		if err := w.client.SubResource("scale").Get(ctx, tn, wanted); err != nil {
			return err.Error()
		}
		if wanted.Status.Selector != kamajiv1alpha1.NameLabel+"="+name {
			return fmt.Sprintf("an autoscaler would select the pods %q", wanted.Status.Selector)
		}
		wanted.Spec.Replicas = replicas
		// The engine may write at the same moment.
		if err := w.client.SubResource("scale").Update(ctx, tn, client.WithSubResourceBody(wanted)); err != nil {
			return err.Error()
		}
		return ""
	})
	w.eventually(t, func(context.Context) string {
		if have := *w.deployment(t, name).Spec.Replicas; have != replicas {
			return fmt.Sprintf("the Deployment has %d replicas", have)
		}
		return ""
	})
}

// scaling goes down to one pod, to none, and back, without any other change.
func (w *world) scaling(t *testing.T) {
	template := w.deployment(t, name).Spec.Template
	budget := func(want bool) {
		t.Helper()
		w.eventually(t, func(ctx context.Context) string {
			err := w.client.Get(ctx, key, &policyv1.PodDisruptionBudget{})
			if client.IgnoreNotFound(err) != nil || apierrors.IsNotFound(err) == want {
				return fmt.Sprintf("PodDisruptionBudget: want %v, have error %v", want, err)
			}
			return ""
		})
	}
	budget(true)
	w.scale(t, 1)
	w.pods(t, name, 1)
	w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	budget(false)
	w.scale(t, 0)
	w.pods(t, name, 0)
	tn := w.tenant(t, name, phase.Ready, metav1.ConditionFalse, kamajiv1alpha1.SleepingReason)
	if *tn.Status.Kubernetes.Version.Status != kamajiv1alpha1.PhaseSleeping {
		t.Errorf("phase %s", *tn.Status.Kubernetes.Version.Status)
	}
	w.scale(t, 2)
	w.pods(t, name, 2)
	w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	budget(true)
	if diff := cmp.Diff(template, w.deployment(t, name).Spec.Template); diff != "" {
		t.Errorf("scaling has changed the pods: %s", diff)
	}
}

// tunnel turns konnectivity on and off, after which everything has to be as before.
func (w *world) tunnel(t *testing.T) {
	names := func(objects map[string]string) []string { return slices.Sorted(maps.Keys(objects)) }
	service := func() []corev1.ServicePort {
		out := &corev1.Service{}
		if err := w.client.Get(t.Context(), key, out); err != nil {
			t.Fatal(err)
		}
		return out.Spec.Ports
	}
	enable := func(value string) {
		t.Helper()
		before := w.deployment(t, name).Generation
		patch := fmt.Sprintf(`{"spec":{"addons":{"konnectivity":%s}}}`, value)
		tn := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name}}
		if err := w.client.Patch(t.Context(), tn, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
			t.Fatal(err)
		}
		w.eventually(t, func(context.Context) string {
			if d := w.deployment(t, name); d.Generation == before {
				return "the Deployment was not rolled"
			}
			return ""
		})
		w.pods(t, name, 2)
	}
	inside, outside, ports := names(w.inside(t, name)), names(w.objects(t, name)), service()
	admin := w.access(t, name, "super-admin.svc")

	enable("{}")
	w.eventually(t, func(context.Context) string {
		if now := names(w.inside(t, name)); !slices.Contains(now, "*v1.DaemonSet/kube-system/konnectivity-agent") {
			return fmt.Sprintf("no agents: %v", now)
		}
		return ""
	})
	if len(service()) != len(ports)+1 {
		t.Errorf("ports of the Service: %v", service())
	}
	// What a server makes, and can't remove without the permission that goes before it.
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Namespace: metav1.NamespaceSystem, Name: "konnectivity-proxy-server-x", Labels: map[string]string{"k8s-app": "konnectivity-server"},
	}}
	if err := admin.Create(t.Context(), lease); err != nil {
		t.Fatal(err)
	}

	enable("null")
	w.eventually(t, func(ctx context.Context) string {
		if diff := cmp.Diff(inside, names(w.inside(t, name))); diff != "" {
			return "in the tenant: " + diff
		}
		if diff := cmp.Diff(outside, names(w.objects(t, name))); diff != "" {
			return "in the management cluster: " + diff
		}
		if err := admin.Get(ctx, client.ObjectKeyFromObject(lease), lease); !apierrors.IsNotFound(err) {
			return fmt.Sprintf("the lease: %v", err)
		}
		return cmp.Diff(ports, service())
	})
	tn := w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	if diff := cmp.Diff(kamajiv1alpha1.KonnectivityStatus{}, tn.Status.Addons.Konnectivity); diff != "" {
		t.Errorf("status: %s", diff)
	}
}

// paced starts two tenants of which only one may start at a time.
func (w *world) paced(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "cores"}}
	w.create(t, node)
	node.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}
	if err := w.client.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	w.eventually(t, func(context.Context) string {
		if have := w.byCPU(); have != 3 {
			return fmt.Sprintf("three processors allow %d starts", have)
		}
		return ""
	})
	w.starts.Store(1)
	defer w.starts.Store(100)
	for _, tenant := range []string{"first", "second"} {
		tn := manifest(t, "customer1.yaml")
		tn.Name = tenant
		w.create(t, tn)
		reason := kamajiv1alpha1.RolloutInProgressReason
		if tenant == "second" {
			reason = kamajiv1alpha1.StartQueuedReason
		}
		w.tenant(t, tenant, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, reason)
	}
	if _, exists := w.objects(t, "second")["*v1.Deployment/kamaji-system/second"]; exists {
		t.Error("the second has started")
	}
	w.pods(t, "first", 1)
	w.tenant(t, "second", kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.RolloutInProgressReason)
	for _, tenant := range []string{"first", "second"} {
		tn := manifest(t, "customer1.yaml")
		tn.Name = tenant
		if err := w.client.Delete(t.Context(), tn); err != nil {
			t.Fatal(err)
		}
		w.collect(t, tenant)
		w.gone(t, tn)
	}
}
