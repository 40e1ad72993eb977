// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// TestWaking has a control plane with no replicas woken by the annotation that the activator writes.
func TestWaking(t *testing.T) {
	w, life := start(t), t
	w.dataStore(t, "default", w.etcd.Config, map[string]string{kamajiv1alpha1.EnableEtcdAuthAnnotation: "true"})
	w.wakeable(t)

	t.Run("sleeps", func(t *testing.T) { w.sleeps(t) })
	t.Run("is woken", func(t *testing.T) {
		w.awakeUntil(t, time.Now().Add(time.Hour))
		w.runs(t, 1)
		w.kubelet.run(life, w.client, w.deployment(t, name), w.address(t, name))
		w.pods(t, name, 1)
		tn := w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
		if *tn.Status.Kubernetes.Version.Status != kamajiv1alpha1.PhaseReady || tn.Replicas() != 0 {
			t.Errorf("phase %s, replicas in the spec %d", *tn.Status.Kubernetes.Version.Status, tn.Replicas())
		}
	})
	t.Run("a second pass writes nothing", func(t *testing.T) { w.settled(t, name) })
	t.Run("a wiped status puts nobody to sleep", func(t *testing.T) {
		before := w.objects(t, name)
		w.wipe(t)
		w.granted(t)
		w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
		if diff := cmp.Diff(before, w.objects(t, name)); diff != "" {
			t.Errorf("rebuilding the status has written:\n%s", diff)
		}
	})
	t.Run("a restarted manager comes back in time", func(t *testing.T) {
		tn := w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
		result, err := w.engine().Reconcile(t.Context(), ctrl.Request{NamespacedName: key})
		if err != nil || result.RequeueAfter == 0 || time.Now().Add(result.RequeueAfter).After(tn.AwakeUntil().Add(time.Second)) {
			t.Errorf("awake until %s, comes back after %s (%v)", tn.AwakeUntil(), result.RequeueAfter, err)
		}
	})
	t.Run("goes back to sleep by itself", func(t *testing.T) {
		w.awakeUntil(t, time.Now().Add(2*time.Second))
		w.sleeps(t)
	})
	t.Run("writes nothing while it sleeps", w.dormant)
	t.Run("goes back to sleep although its pods never came up", func(t *testing.T) {
		w.awakeUntil(t, time.Now().Add(time.Hour))
		w.runs(t, 1)
		w.pods(t, name, 0)
		w.awakeUntil(t, time.Now().Add(2*time.Second))
		w.sleeps(t)
	})
	t.Run("an annotation that is no time wakes nothing", func(t *testing.T) {
		w.annotate(t, &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name}}, kamajiv1alpha1.AwakeUntilAnnotation, "tomorrow")
		w.dormant(t)
	})
	t.Run("sleeps at once when nothing may wake it", func(t *testing.T) {
		w.awakeUntil(t, time.Now().Add(time.Hour))
		w.runs(t, 1)
		w.change(t, func(s *kamajiv1alpha1.TenantControlPlaneSpec) { s.ControlPlane.KamajiGateway.Wake = nil })
		w.sleeps(t)
	})
}

// wakeable makes a sleeping tenant that a connection can wake.
func (w *world) wakeable(t *testing.T) {
	t.Helper()
	tn := manifest(t, "customer1.yaml")
	tn.Spec.ControlPlane.Deployment.Replicas = ptr.To[int32](0)
	tn.Spec.ControlPlane.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{
		Name: "default", Wake: &kamajiv1alpha1.WakeSpec{For: &metav1.Duration{Duration: time.Minute}},
	}
	w.create(t, tn)
	w.granted(t)
}

// granted does what the gateway does.
func (w *world) granted(t *testing.T) {
	t.Helper()
	tn := w.tenant(t, name, kamajiv1alpha1.AddressReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.GatewayPendingReason)
	after := tn.DeepCopy()
	after.Status.KamajiGateway = &kamajiv1alpha1.KamajiGatewayStatus{
		Name: "default", Hostname: "customer1.k8s.example.com", PublicAddress: "203.0.113.10", PrivateAddress: "10.0.0.100", Port: 6443, TenantPort: 31001,
	}
	if err := w.client.Status().Patch(t.Context(), after, client.MergeFrom(tn)); err != nil {
		t.Fatal(err)
	}
}

// awakeUntil does what the activator does.
func (w *world) awakeUntil(t *testing.T, until time.Time) {
	t.Helper()
	w.annotate(t, &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name}},
		kamajiv1alpha1.AwakeUntilAnnotation, until.UTC().Format(time.RFC3339))
}

// runs waits for the Deployment to want pods.
func (w *world) runs(t *testing.T, replicas int32) {
	t.Helper()
	w.eventually(t, func(context.Context) string {
		if have := *w.deployment(t, name).Spec.Replicas; have != replicas {
			return fmt.Sprintf("the Deployment has %d replicas", have)
		}
		return ""
	})
}

// sleeps waits until no pod is wanted, and the tenant says so.
func (w *world) sleeps(t *testing.T) {
	t.Helper()
	tn := w.tenant(t, name, kamajiv1alpha1.AddressReadyCondition, metav1.ConditionTrue, phase.ReasonDone)
	w.eventually(t, func(ctx context.Context) string {
		if err := w.client.Get(ctx, client.ObjectKeyFromObject(tn), tn); err != nil {
			return err.Error()
		}
		if tn.Status.Kubernetes.Deployment.Name == "" {
			return "there is no Deployment yet"
		}
		return ""
	})
	w.runs(t, 0)
	w.pods(t, name, 0)
	tn = w.tenant(t, name, phase.Ready, metav1.ConditionFalse, kamajiv1alpha1.SleepingReason)
	if *tn.Status.Kubernetes.Version.Status != kamajiv1alpha1.PhaseSleeping {
		t.Errorf("phase %s", *tn.Status.Kubernetes.Version.Status)
	}
}

// dormant has a pass write nothing.
func (w *world) dormant(t *testing.T) {
	t.Helper()
	before, tn := w.objects(t, name), w.tenant(t, name, phase.Ready, metav1.ConditionFalse, kamajiv1alpha1.SleepingReason)
	if _, err := w.engine().Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, w.objects(t, name)); diff != "" {
		t.Errorf("written while it sleeps:\n%s", diff)
	}
	if after := w.tenant(t, name, phase.Ready, metav1.ConditionFalse, kamajiv1alpha1.SleepingReason); after.ResourceVersion != tn.ResourceVersion {
		t.Errorf("the object was written:\n%s", cmp.Diff(tn, after))
	}
}
