// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
)

var rolloutNow = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func condition(kind appsv1.DeploymentConditionType, status corev1.ConditionStatus, ago time.Duration) appsv1.DeploymentCondition {
	return appsv1.DeploymentCondition{Type: kind, Status: status, LastUpdateTime: metav1.NewTime(rolloutNow.Add(-ago))}
}

// underWay is asked about Deployments of two replicas and generation 3.
func TestChangesWaitForRollouts(t *testing.T) {
	progress := []appsv1.DeploymentCondition{condition(appsv1.DeploymentProgressing, corev1.ConditionTrue, 20*time.Second)}
	for name, c := range map[string]struct {
		status appsv1.DeploymentStatus
		want   time.Duration
	}{
		"all serve":                     {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2, Conditions: progress}, 0},
		"nothing has been ready yet":    {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 2, Conditions: progress}, 0},
		"ready, not yet available":      {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 4, UpdatedReplicas: 2, ReadyReplicas: 4, AvailableReplicas: 2, Conditions: progress}, rolloutRetry},
		"the same without conditions":   {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 4, UpdatedReplicas: 2, ReadyReplicas: 4, AvailableReplicas: 2}, rolloutRetry},
		"new pods start":                {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 4, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2, Conditions: progress}, 40 * time.Second},
		"not noticed yet":               {appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2, Conditions: progress}, 40 * time.Second},
		"old pods are left":             {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 3, UpdatedReplicas: 2, ReadyReplicas: 3, AvailableReplicas: 3, Conditions: progress}, 40 * time.Second},
		"no progress for a minute":      {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 4, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2, Conditions: []appsv1.DeploymentCondition{condition(appsv1.DeploymentProgressing, corev1.ConditionTrue, time.Minute)}}, 0},
		"failed":                        {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 4, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2, Conditions: []appsv1.DeploymentCondition{condition(appsv1.DeploymentProgressing, corev1.ConditionFalse, 0)}}, 0},
		"pods can't be created":         {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 0, ReadyReplicas: 2, AvailableReplicas: 2, Conditions: append(progress, condition(appsv1.DeploymentReplicaFailure, corev1.ConditionTrue, 0))}, 0},
		"no pod could be created there": {appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 4, UpdatedReplicas: 2, ReadyReplicas: 4, AvailableReplicas: 2, Conditions: append(progress, condition(appsv1.DeploymentReplicaFailure, corev1.ConditionFalse, 0))}, rolloutRetry},
	} {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 3}, Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](2)}, Status: c.status}
		if have := underWay(d, rolloutNow); have != c.want {
			t.Errorf("%s: waits %s, want %s", name, have, c.want)
		}
	}
}

func TestWhatNeverWaits(t *testing.T) {
	busy := func() (*scope, *appsv1.Deployment, *appsv1.Deployment) {
		owner := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "u"}}
		live := &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{
				Annotations:     map[string]string{desired.TemplateAnnotation: "first"},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, kamajiv1alpha1.GroupVersion.WithKind("TenantControlPlane"))},
			},
			Spec:   appsv1.DeploymentSpec{Replicas: ptr.To[int32](2)},
			Status: appsv1.DeploymentStatus{Replicas: 4, UpdatedReplicas: 2, ReadyReplicas: 4, AvailableReplicas: 2},
		}
		wanted := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{desired.TemplateAnnotation: "second"}}}
		return &scope{tenant: owner, now: rolloutNow}, live, wanted
	}
	for name, change := range map[string]func(*scope, *appsv1.Deployment, *appsv1.Deployment){
		"the same pods":          func(_ *scope, _, wanted *appsv1.Deployment) { wanted.Annotations[desired.TemplateAnnotation] = "first" },
		"the first pods":         func(_ *scope, live, _ *appsv1.Deployment) { *live = appsv1.Deployment{} },
		"of somebody else":       func(_ *scope, live, _ *appsv1.Deployment) { live.OwnerReferences[0].UID = "other" },
		"a Deployment that goes": func(_ *scope, live, _ *appsv1.Deployment) { live.DeletionTimestamp = ptr.To(metav1.Now()) },
		"to sleep": func(s *scope, _, _ *appsv1.Deployment) {
			s.tenant.Spec.ControlPlane.Deployment.Replicas = ptr.To[int32](0)
		},
		"to wake":                  func(_ *scope, live, _ *appsv1.Deployment) { live.Spec.Replicas = ptr.To[int32](0) },
		"back after a bad upgrade": func(s *scope, _, _ *appsv1.Deployment) { s.course.Failed = "v1.35.0" },
	} {
		s, live, wanted := busy()
		if s.waits(live, wanted) == 0 {
			t.Fatal("a change doesn't wait for anything")
		}
		change(s, live, wanted)
		if again := s.waits(live, wanted); again != 0 {
			t.Errorf("%s: waits %s", name, again)
		}
	}
}
