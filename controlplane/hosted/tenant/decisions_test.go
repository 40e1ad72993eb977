// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"strconv"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

func TestRollout(t *testing.T) {
	for name, c := range map[string]struct {
		status   appsv1.DeploymentStatus
		replicas int32
		want     string
	}{
		"just created":             {appsv1.DeploymentStatus{}, 2, kamajiv1alpha1.RolloutInProgressReason},
		"pods start":               {appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 2, UpdatedReplicas: 2}, 2, kamajiv1alpha1.RolloutInProgressReason},
		"one of two serves":        {appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 1}, 2, phase.ReasonDone},
		"old ones are left":        {appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 4, UpdatedReplicas: 2, ReadyReplicas: 3}, 2, kamajiv1alpha1.RolloutInProgressReason},
		"change not observed":      {appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2}, 2, kamajiv1alpha1.RolloutInProgressReason},
		"scaled to zero":           {appsv1.DeploymentStatus{ObservedGeneration: 2}, 0, kamajiv1alpha1.SleepingReason},
		"scaling to zero":          {appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 1, UpdatedReplicas: 1}, 0, kamajiv1alpha1.RolloutInProgressReason},
		"new ones don't get ready": {failed(appsv1.DeploymentProgressing, corev1.ConditionFalse), 2, kamajiv1alpha1.RolloutFailedReason},
		"pods can't be created":    {failed(appsv1.DeploymentReplicaFailure, corev1.ConditionTrue), 2, kamajiv1alpha1.RolloutFailedReason},
	} {
		t.Run(name, func(t *testing.T) {
			d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Status: c.status}
			if reason, message := phase.Outcome(rollout(d, c.replicas)); reason != c.want {
				t.Errorf("want %s, got %s: %s", c.want, reason, message)
			}
		})
	}
}

func failed(kind appsv1.DeploymentConditionType, status corev1.ConditionStatus) appsv1.DeploymentStatus {
	return appsv1.DeploymentStatus{
		ObservedGeneration: 2, Replicas: 4, UpdatedReplicas: 2, ReadyReplicas: 2,
		Conditions: []appsv1.DeploymentCondition{{Type: kind, Status: status, Message: "quota exceeded"}},
	}
}

func TestStage(t *testing.T) {
	type change = func(*kamajiv1alpha1.TenantControlPlane)
	for want, c := range map[kamajiv1alpha1.VersionPhase]change{
		// Permissions that nothing enforces must not look enforced.
		kamajiv1alpha1.PhaseReady: func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Spec.WritePermissions.BlockCreation = true },
		kamajiv1alpha1.PhaseSleeping: func(tn *kamajiv1alpha1.TenantControlPlane) {
			tn.Spec.ControlPlane.Deployment.Replicas = ptr.To[int32](0)
		},
		kamajiv1alpha1.PhaseProvisioning: func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Status.Kubernetes.Version.Version = "" },
		kamajiv1alpha1.PhaseUpgrading:    func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Spec.Kubernetes.Version = "v1.36.3" },
		kamajiv1alpha1.PhaseNotReady:     func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Status.Kubernetes.Deployment.ReadyReplicas = 0 },
	} {
		tn := &kamajiv1alpha1.TenantControlPlane{}
		tn.Spec.Kubernetes.Version = "1.35.0"
		tn.Status.Kubernetes.Version.Version = "v1.35.0"
		tn.Status.Kubernetes.Deployment.ReadyReplicas = 2
		tn.Status.ObservedGeneration = 1
		c(tn)
		if got := stage(tn, tn.Replicas()); got != want {
			t.Errorf("want %s, got %s", want, got)
		}
	}
}

func TestMemory(t *testing.T) {
	var m memory
	key, now := memoryKey{task: taskInside}, time.Now()
	if done, _ := m.done(key, []string{"a"}, now); done {
		t.Error("an empty memory says done")
	}
	for i, want := range []time.Duration{1, 2, 4, 5, 5} {
		if got := m.backOff(key, time.Second, 5*time.Second); got != want*time.Second {
			t.Errorf("failure %d: wait %s", i, got)
		}
	}
	next := m.remember(key, []string{"a"}, now)
	if next.Before(now.Add(resyncEvery/2)) || next.After(now.Add(resyncEvery)) {
		t.Errorf("next check after %s", next.Sub(now))
	}
	if done, at := m.done(key, []string{"a"}, now); !done || !at.Equal(next) {
		t.Errorf("done %v, next %s", done, at)
	}
	if done, _ := m.done(key, []string{"b"}, now); done {
		t.Error("other inputs count as done")
	}
	if done, _ := m.done(key, []string{"a"}, next); done {
		t.Error("the check is never due")
	}
	if got := m.backOff(key, time.Second, 5*time.Second); got != time.Second {
		t.Errorf("after a success the first failure waits %s", got)
	}
	m.forget(key.tenant)
	if done, _ := m.done(key, []string{"a"}, now); done {
		t.Error("a forgotten task counts as done")
	}
}

// TestReadBeforeOwnWrite: the cache may lag behind this controller's own write, and only that makes a read old.
func TestReadBeforeOwnWrite(t *testing.T) {
	at := func(version string) *kamajiv1alpha1.TenantControlPlane {
		return &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "customer1", ResourceVersion: version}}
	}
	var w writes
	if w.follow(at("9")) {
		t.Error("a tenant that was never written counts as old")
	}
	w.note(at("10"))
	for version, want := range map[string]bool{"9": true, "10": false, "11": false, "100": false, "opaque": false, "": false} {
		if got := w.follow(at(version)); got != want {
			t.Errorf("version %q, written at 10: old is %v", version, got)
		}
	}
	w.forget(types.NamespacedName{Namespace: "team", Name: "customer1"})
	if w.follow(at("9")) {
		t.Error("a write outlives its tenant")
	}
}

func TestChecksOfManyTenantsArePaced(t *testing.T) {
	var m memory
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const tenants = 1000
	key := func(i int) memoryKey {
		return memoryKey{tenant: types.NamespacedName{Name: strconv.Itoa(i)}, task: taskInside}
	}
	first := m.remember(key(0), nil, now)
	last := first
	for i := 1; i < tenants; i++ {
		next := m.remember(key(i), nil, now)
		if next.Sub(last) < checkPace {
			t.Fatalf("check %d comes %s after the one before", i, next.Sub(last))
		}
		other := memoryKey{tenant: key(i).tenant, task: taskStorage}
		if same := m.remember(other, nil, now.Add(time.Minute)); !same.Equal(next) {
			t.Fatalf("tenant %d is checked at %s and at %s", i, next, same)
		}
		last = next
	}
	if after := last.Sub(now); after > resyncEvery+tenants*checkPace {
		t.Errorf("the last of %d tenants is checked after %s", tenants, after)
	}
	if again := m.remember(key(0), []string{"changed"}, now); !again.Equal(first) {
		t.Errorf("a change moves the check from %s to %s", first, again)
	}
	noted := memoryKey{tenant: key(0).tenant, task: taskNodes}
	m.note(noted, nil, now.Add(time.Hour))
	if known, _ := m.done(noted, nil, now.Add(time.Minute)); !known {
		t.Error("what was noted is not known")
	}
	// A note takes nobody's place.
	if again := m.remember(key(0), nil, first); again.Sub(last) != checkPace {
		t.Errorf("who was checked comes again %s after the last one", again.Sub(last))
	}
}
