// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

const (
	// rolloutPatience is how long a roll-out may show no progress before another
	// change replaces it. A pod that starts at all does so in a few seconds; what
	// takes longer is stuck, and the change may be the cure.
	rolloutPatience = time.Minute
	// rolloutRetry is when pods that are ready have become available, or are not
	// ready any more. A watch usually tells before.
	rolloutRetry = 5 * time.Second
)

// write applies everything the pods mount before the pods: a kubelet that finds
// a Secret missing tries again only after half a second or more. The Service was
// applied by an earlier step of the same pass. A change of the pods that has to
// wait is left in s.held; what the present ones mount stays as long.
func (r *Reconciler) write(ctx context.Context, s *scope, objects []client.Object) error {
	members := set(s.tenant, s.routesUsable)
	members.Label(objects)
	w := r.writer(s.live)
	var wanted *appsv1.Deployment
	var first []client.Object
	for _, object := range objects {
		switch o := object.(type) {
		case *appsv1.Deployment:
			wanted = o
		case *corev1.Service:
		default:
			first = append(first, object)
		}
	}
	if _, err := w.All(ctx, first); err != nil {
		return err
	}
	// Now: a tenant that has to queue for its pods begins its next pass with nothing to tell.
	r.tell(s)
	live := &appsv1.Deployment{}
	key := client.ObjectKeyFromObject(wanted)
	if err := r.Client.Get(ctx, key, live); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading Deployment %s: %w", key, err)
	}
	if again := s.waits(live, wanted); again > 0 {
		s.held = phase.WaitFor(again, kamajiv1alpha1.ChangePendingReason,
			"a change of the pods waits until the roll-out before it has ended: %d of %d pods are of that one, %d have served long enough%s",
			live.Status.UpdatedReplicas, max(live.Status.Replicas, s.replicas()), live.Status.AvailableReplicas, s.way())
		s.deployment = live
		return r.resize(ctx, live, s.replicas())
	}
	if err := r.pace(s, live, wanted); err != nil {
		return err
	}
	s.deployment = wanted
	if _, err := w.Apply(ctx, wanted); err != nil {
		return err
	}
	_, err := w.Prune(ctx, members, objects)
	return err
}

// waits tells how long a change of the pods has to wait at most, 0 if it goes at
// once: the first pods, to none and from none, back from a failed upgrade, and during a move.
func (s *scope) waits(live, wanted *appsv1.Deployment) time.Duration {
	if !metav1.IsControlledBy(live, s.tenant) || !live.DeletionTimestamp.IsZero() || s.replicas() == 0 || s.course.Failed != "" || s.record.Active() ||
		live.Annotations[desired.TemplateAnnotation] == wanted.Annotations[desired.TemplateAnnotation] {
		return 0
	}
	return underWay(live, s.now)
}

// underWay tells how long a roll-out may go on before anything else replaces the
// pods, 0 if it has ended, failed or is stuck. A Deployment takes pods that are
// ready but not yet available for broken ones and, when its template changes,
// removes them first, although they serve.
func underWay(d *appsv1.Deployment, now time.Time) time.Duration {
	status, replicas := d.Status, ptr.Deref(d.Spec.Replicas, 1)
	var progress *appsv1.DeploymentCondition
	for i := range status.Conditions {
		switch c := &status.Conditions[i]; {
		case c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue, c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse:
			return 0
		case c.Type == appsv1.DeploymentProgressing:
			progress = c
		}
	}
	ended := status.ObservedGeneration >= d.Generation && status.UpdatedReplicas == replicas &&
		status.Replicas == replicas && status.AvailableReplicas == replicas
	switch {
	case replicas == 0 || status.ReadyReplicas == 0 || ended:
		return 0
	case status.ReadyReplicas > status.AvailableReplicas:
		return rolloutRetry
	case progress == nil:
		return 0
	}
	return max(progress.LastUpdateTime.Add(rolloutPatience).Sub(now), 0)
}

// resize changes nothing but the number of pods.
func (r *Reconciler) resize(ctx context.Context, live *appsv1.Deployment, replicas int32) error {
	if ptr.Deref(live.Spec.Replicas, 1) == replicas {
		return nil
	}
	before := live.DeepCopy()
	live.Spec.Replicas = &replicas
	if err := r.Client.Patch(ctx, live, client.MergeFrom(before), client.FieldOwner(FieldOwner)); err != nil {
		return fmt.Errorf("scaling Deployment %s: %w", client.ObjectKeyFromObject(live), err)
	}
	return nil
}

// rollout says whether the control plane serves in the wanted version: one pod
// of the present template is ready, and no older one is left.
func rollout(d *appsv1.Deployment, replicas int32) error {
	status := d.Status
	switch {
	case replicas == 0 && status.Replicas == 0:
		return phase.Wait(kamajiv1alpha1.SleepingReason, "spec.controlPlane.deployment.replicas is 0")
	case status.ObservedGeneration >= d.Generation && status.UpdatedReplicas > 0 &&
		status.Replicas == status.UpdatedReplicas && status.ReadyReplicas > 0:
		return nil
	}
	for _, c := range d.Status.Conditions {
		failed := c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse ||
			c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue
		if failed {
			return phase.Wait(kamajiv1alpha1.RolloutFailedReason, "Deployment %s/%s: %s", d.Namespace, d.Name, c.Message)
		}
	}
	return phase.Wait(kamajiv1alpha1.RolloutInProgressReason,
		"waits for Deployment %s/%s: %d of %d pods are of the wanted version, %d pods are ready",
		d.Namespace, d.Name, status.UpdatedReplicas, max(status.Replicas, replicas), status.ReadyReplicas)
}
