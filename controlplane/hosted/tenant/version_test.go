// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/tenant"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// want sets the version in the spec.
func (w *world) want(t *testing.T, version string) {
	t.Helper()
	tn := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name}}
	patch := fmt.Sprintf(`{"spec":{"kubernetes":{"version":%q}}}`, version)
	if err := w.client.Patch(t.Context(), tn, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		t.Fatal(err)
	}
}

// rolls waits until pods of a version are being started.
func (w *world) rolls(t *testing.T, version string) {
	t.Helper()
	w.eventually(t, func(context.Context) string {
		if have := w.deployment(t, name).Spec.Template.Annotations[desired.VersionAnnotation]; have != version {
			return fmt.Sprintf("want pods of %s, have %s", version, have)
		}
		return ""
	})
}

// arrives waits until a version runs and everything is in order.
func (w *world) arrives(t *testing.T, version string) {
	t.Helper()
	w.eventually(t, func(ctx context.Context) string {
		tn := &kamajiv1alpha1.TenantControlPlane{}
		if err := w.client.Get(ctx, key, tn); err != nil {
			return err.Error()
		}
		if have := tn.Status.Kubernetes.Version.Version; have != version || !meta.IsStatusConditionTrue(tn.Status.Conditions, phase.Ready) {
			return fmt.Sprintf("want %s, have %s with %+v", version, have, tn.Status.Conditions)
		}
		record := &corev1.ConfigMap{}
		if err := w.client.Get(ctx, types.NamespacedName{Namespace: system, Name: name + "-" + desired.KubeadmConfig}, record); err != nil {
			return err.Error()
		}
		if have := record.Annotations[desired.ServedVersionAnnotation]; have != version {
			return "recorded: " + have
		}
		return ""
	})
}

// stalls is what the Deployment controller reports when new pods don't get ready in time.
func (w *world) stalls(t *testing.T) {
	t.Helper()
	d := w.deployment(t, name)
	d.Status = appsv1.DeploymentStatus{
		ObservedGeneration: d.Generation, Replicas: 4, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2,
		Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}},
	}
	if err := w.client.Status().Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func (w *world) upgrades(t *testing.T) {
	t.Run("no minor back", func(t *testing.T) {
		w.want(t, "v1.30.9")
		tn := w.tenant(t, name, kamajiv1alpha1.VersionReachedCondition, metav1.ConditionFalse, kamajiv1alpha1.InvalidVersionReason)
		if !meta.IsStatusConditionTrue(tn.Status.Conditions, kamajiv1alpha1.WorkloadReadyCondition) {
			t.Error("what runs is no longer cared for")
		}
	})
	t.Run("two minors", w.twoMinors)
	t.Run("a failure", w.fallback)
	t.Run("no way around the record", func(t *testing.T) {
		w.pods(t, name, 0)
		w.wipe(t)
		w.want(t, "v1.33.1")
		w.tenant(t, name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.RolloutInProgressReason)
		w.rolls(t, "v1.34.3")
		w.pods(t, name, 2)
		w.tenant(t, name, kamajiv1alpha1.VersionReachedCondition, metav1.ConditionFalse, kamajiv1alpha1.InvalidVersionReason)
		w.want(t, "v1.34.3")
		w.arrives(t, "v1.34.3")
	})
	t.Run("preflight", w.preflight)
	t.Run("asleep", w.asleep)
}

// asleep: steps wait for pods, and what the spec alone tells is looked at before.
func (w *world) asleep(t *testing.T) {
	w.scale(t, 0)
	w.pods(t, name, 0)
	w.controllerManager(t, `["--feature-gates=ComponentSLIs=true"]`)
	w.want(t, "v1.36.3")
	w.scale(t, 2)
	w.rolls(t, "v1.34.4")
	w.pods(t, name, 2)
	tn := w.tenant(t, name, phase.Ready, metav1.ConditionFalse, kamajiv1alpha1.PreflightFailedReason)
	if c := meta.FindStatusCondition(tn.Status.Conditions, phase.Ready); !strings.Contains(c.Message, "ComponentSLIs does not exist since 1.35") {
		t.Errorf("the feature gate is not named: %s", c.Message)
	}
	w.scale(t, 0)
	w.pods(t, name, 0)
	w.controllerManager(t, `[]`)
	w.rolls(t, "v1.35.8")
	w.pods(t, name, 0)
	tn = w.tenant(t, name, phase.Ready, metav1.ConditionFalse, kamajiv1alpha1.SleepingReason)
	if have := tn.Status.Kubernetes.Version.Version; have != "v1.34.4" {
		t.Errorf("a version that never ran is reported: %s", have)
	}
	if c := meta.FindStatusCondition(tn.Status.Conditions, phase.Ready); !strings.Contains(c.Message, "from v1.34.4 to v1.36.3, now to v1.35.8, then 1 more step") {
		t.Errorf("the way is not told: %s", c.Message)
	}
	w.rolls(t, "v1.35.8")
	w.scale(t, 2)
	w.pods(t, name, 2)
	w.rolls(t, "v1.36.3")
	w.pods(t, name, 2)
	w.arrives(t, "v1.36.3")
}

// controllerManager sets the arguments of kube-controller-manager.
func (w *world) controllerManager(t *testing.T, args string) {
	t.Helper()
	tn := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name}}
	patch := fmt.Sprintf(`{"spec":{"controlPlane":{"deployment":{"extraArgs":{"controllerManager":%s}}}}}`, args)
	if err := w.client.Patch(t.Context(), tn, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		t.Fatal(err)
	}
}

func (w *world) twoMinors(t *testing.T) {
	old := w.pod(t, system, name)
	w.want(t, "v1.33.1")
	w.rolls(t, "v1.32.13")
	tn := w.tenant(t, name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.RolloutInProgressReason)
	if c := meta.FindStatusCondition(tn.Status.Conditions, kamajiv1alpha1.WorkloadReadyCondition); !strings.Contains(c.Message, "from v1.31.0 to v1.33.1, now to v1.32.13") {
		t.Errorf("the step is not told: %s", c.Message)
	}
	w.pods(t, name, 2)
	// A pod of the version before the step still stops.
	w.eventually(t, func(ctx context.Context) string {
		if err := w.client.Get(ctx, key, tn); err != nil {
			return err.Error()
		}
		if c := meta.FindStatusCondition(tn.Status.Conditions, kamajiv1alpha1.WorkloadReadyCondition); !strings.Contains(c.Message, "to stop") {
			return c.Message
		}
		return ""
	})
	w.rolls(t, "v1.32.13")
	w.stopped(t, old)
	w.rolls(t, "v1.33.1")
	w.pods(t, name, 2)
	w.arrives(t, "v1.33.1")
}

func (w *world) fallback(t *testing.T) {
	w.want(t, "v1.34.2")
	w.rolls(t, "v1.34.2")
	w.stalls(t)
	w.rolls(t, "v1.33.1")
	w.pods(t, name, 2)
	tn := w.tenant(t, name, phase.Ready, metav1.ConditionFalse, kamajiv1alpha1.UpgradeFailedReason)
	if have := tn.Status.Kubernetes.Version.Version; have != "v1.33.1" || !meta.IsStatusConditionTrue(tn.Status.Conditions, kamajiv1alpha1.TenantConfiguredCondition) {
		t.Errorf("%s runs, conditions %+v", have, tn.Status.Conditions)
	}
	// Neither an autoscaler nor a lost status nor a restart makes it try again.
	w.scale(t, 3)
	w.pods(t, name, 3)
	w.wipe(t)
	w.tenant(t, name, phase.Ready, metav1.ConditionFalse, kamajiv1alpha1.UpgradeFailedReason)
	if _, err := w.engine().Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
		t.Fatal(err)
	}
	w.rolls(t, "v1.33.1")
	w.scale(t, 2)
	w.pods(t, name, 2)
	w.want(t, "v1.34.3")
	w.rolls(t, "v1.34.3")
	w.pods(t, name, 2)
	w.arrives(t, "v1.34.3")
}

func (w *world) preflight(t *testing.T) {
	admin := w.access(t, name, "super-admin.svc")
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "old"}}
	if err := admin.Create(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	node.Status.NodeInfo.KubeletVersion = "v1.30.9"
	if err := admin.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	w.want(t, "v1.34.4")
	tn := w.tenant(t, name, phase.Ready, metav1.ConditionFalse, kamajiv1alpha1.PreflightFailedReason)
	if c := meta.FindStatusCondition(tn.Status.Conditions, phase.Ready); !strings.Contains(c.Message, "old (v1.30.9)") {
		t.Errorf("the node is not named: %s", c.Message)
	}
	w.rolls(t, "v1.34.3")
	w.annotate(t, tn, tenant.SkipPreflightAnnotation, "v1.34.4")
	w.rolls(t, "v1.34.4")
	w.pods(t, name, 2)
	w.arrives(t, "v1.34.4")
	if err := admin.Delete(t.Context(), node); err != nil {
		t.Fatal(err)
	}
}

// wipe loses the status, as `clusterctl move` does.
func (w *world) wipe(t *testing.T) {
	t.Helper()
	w.eventually(t, func(ctx context.Context) string {
		tn := &kamajiv1alpha1.TenantControlPlane{}
		if err := w.client.Get(ctx, key, tn); err != nil {
			return err.Error()
		}
		tn.Status = kamajiv1alpha1.TenantControlPlaneStatus{}
		// The engine may write at the same moment.
		if err := w.client.Status().Update(ctx, tn); err != nil {
			return err.Error()
		}
		return ""
	})
}
