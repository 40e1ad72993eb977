// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

func mark(host *infrav1.RackHost, kind string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&host.Status.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: host.Generation,
	})
}

func reference(claim *infrav1.RackHostClaim) *infrav1.HostClaimReference {
	if claim == nil {
		return nil
	}
	return &infrav1.HostClaimReference{ID: claim.Spec.ID, Machine: claim.Spec.Machine.Name, Cluster: claim.Spec.ClusterName}
}

// summarize sets Ready: true where the host is what it should be, otherwise with the cause that stopped the pass.
func summarize(s *scope, outcome error) {
	host := s.host
	if host.Status.Claim == nil {
		meta.RemoveStatusCondition(&host.Status.Conditions, infrav1.HostBootstrappedCondition)
	}
	current := host.Status.Phase
	switch {
	case outcome != nil:
		reason, message := phase.Outcome(outcome)
		mark(host, infrav1.HostReadyCondition, metav1.ConditionFalse, reason, message)
	case current == infrav1.HostAvailable && host.Spec.Unavailable:
		mark(host, infrav1.HostReadyCondition, metav1.ConditionFalse, infrav1.HostUnavailableReason, "spec.unavailable is true")
	case current == infrav1.HostAvailable, current == infrav1.HostRunning:
		mark(host, infrav1.HostReadyCondition, metav1.ConditionTrue, string(current), "")
	}
	// A quarantined host that nothing was done about keeps the reason for which it was quarantined.
}

// observe asks the host how far an operation is and records it.
func (r *Reconciler) observe(ctx context.Context, s *scope, kind infrav1.HostOperationType, id string) (driver.Progress, error) {
	var progress driver.Progress
	err := r.call(ctx, s, func(ctx context.Context, d driver.Driver) (err error) {
		progress, err = d.Observe(ctx, id)
		return err
	})
	if err == nil {
		r.operation(s, kind, id, progress)
	}
	return progress, err
}

// operation records an operation's progress. Its log's end stays out: conditions have it where it matters.
func (r *Reconciler) operation(s *scope, kind infrav1.HostOperationType, id string, progress driver.Progress) {
	now := metav1.NewTime(r.options.Clock.Now())
	last := s.host.Status.LastOperation
	if last == nil || last.ID != id || last.FinishedAt != nil && progress.Phase == driver.Running {
		last = &infrav1.HostOperation{Type: kind, ID: id, StartedAt: &now}
		s.host.Status.LastOperation = last
	}
	ended := progress.Phase == driver.Succeeded || progress.Phase == driver.Failed
	if ended && last.FinishedAt == nil {
		last.FinishedAt = &now
		if kind == infrav1.HostOperationBootstrap && progress.Phase == driver.Failed {
			r.warn(s, infrav1.HostBootstrapFailedReason, "The bootstrap data failed at %s: %s", progress.Step, progress.Reason)
		}
	}
	if last.State = string(progress.Phase); progress.Step != "" {
		last.Step = progress.Step
	}
}
