// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// stage does the work of one phase and names the next one. The same phase, or an error, ends the pass.
type stage func(context.Context, *scope) (infrav1.HostPhase, error)

// stages is the state machine; the package documentation has its diagram.
func (r *Reconciler) stages() map[infrav1.HostPhase]stage {
	return map[infrav1.HostPhase]stage{
		infrav1.HostRegistering:   r.registering,
		infrav1.HostAvailable:     r.available,
		infrav1.HostClaimed:       r.claimed,
		infrav1.HostPreparing:     r.preparing,
		infrav1.HostBootstrapping: r.bootstrapping,
		infrav1.HostRunning:       r.running,
		infrav1.HostReleasing:     r.orAbandon(r.releasing),
		infrav1.HostDirty:         r.orAbandon(r.dirty),
		infrav1.HostCleaning:      r.orAbandon(r.cleaning),
		infrav1.HostQuarantined:   r.quarantined,
	}
}

// maxTransitions is more than the longest way through the diagram without waiting. A longer one would be a loop.
const maxTransitions = 12

// advance goes from phase to phase until one has to wait.
func (r *Reconciler) advance(ctx context.Context, s *scope) error {
	status := &s.host.Status
	status.Phase = orient(s.host, s.claim)
	status.Claim = reference(s.claim)
	for range maxTransitions {
		current := status.Phase
		next, err := r.stages()[current](ctx, s)
		if next != current {
			ctrl.LoggerFrom(ctx).V(2).Info("host changes phase", "from", current, "to", next)
			status.Phase = next
			r.announce(s, next)
		}
		if err != nil || next == current {
			return err
		}
	}
	return fmt.Errorf("host phases go round in circles at %s", status.Phase)
}

func (r *Reconciler) registering(ctx context.Context, s *scope) (infrav1.HostPhase, error) {
	if err := r.inspect(ctx, s); err != nil {
		return infrav1.HostRegistering, err
	}
	return r.settle(ctx, s, infrav1.HostRegistering)
}

// settle puts an inspected host where it belongs. The phase it comes from is kept while the host can't be used.
func (r *Reconciler) settle(ctx context.Context, s *scope, from infrav1.HostPhase) (infrav1.HostPhase, error) {
	v := judge(s.facts.OperationID, s.report.Findings, s.host, s.claim)
	switch v.phase {
	case infrav1.HostAvailable, infrav1.HostClaimed:
		mark(s.host, infrav1.HostCleanCondition, metav1.ConditionTrue, infrav1.HostVerifiedReason, "")
		if err := r.usable(s); err != nil {
			return from, err
		}
		return v.phase, r.unmarkHost(ctx, s)
	case infrav1.HostDirty:
		mark(s.host, infrav1.HostCleanCondition, metav1.ConditionFalse, infrav1.HostNotCleanReason, "a reset was asked for or is owed")
	case infrav1.HostBootstrapping:
		mark(s.host, infrav1.HostCleanCondition, metav1.ConditionFalse, infrav1.HostInUseReason, "")
	case infrav1.HostRegistering:
		mark(s.host, infrav1.HostCleanCondition, metav1.ConditionFalse, v.reason, v.message)
		return v.phase, phase.WaitFor(r.options.RetryInterval, v.reason, "%s", v.message)
	default:
		mark(s.host, infrav1.HostCleanCondition, metav1.ConditionFalse, v.reason, v.message)
		return v.phase, phase.Wait(v.reason, "%s", v.message)
	}
	return v.phase, nil
}

func (r *Reconciler) available(context.Context, *scope) (infrav1.HostPhase, error) {
	return infrav1.HostAvailable, nil
}

func (r *Reconciler) claimed(_ context.Context, s *scope) (infrav1.HostPhase, error) {
	mark(s.host, infrav1.HostBootstrappedCondition, metav1.ConditionFalse, infrav1.HostBootstrapPendingReason, "")
	return infrav1.HostPreparing, nil
}

// preparing makes sure once more that host and claim are what they seem, then delivers. A host that was restored,
// or used behind our back, since it was verified is found here.
func (r *Reconciler) preparing(ctx context.Context, s *scope) (infrav1.HostPhase, error) {
	if err := r.probe(ctx, s); err != nil {
		return infrav1.HostPreparing, err
	}
	switch held := holderOf(s.facts.OperationID, s.host, s.claim); {
	case held == heldByClaim:
		if delivered, err := r.delivered(ctx, s); err != nil || delivered {
			return infrav1.HostBootstrapping, err
		}
	case held != heldByNobody, s.facts.KubeletActive:
		return infrav1.HostRegistering, nil
	}
	if err := r.usable(s); err != nil {
		return infrav1.HostPreparing, err
	}
	if err := r.stillClaimed(ctx, s); err != nil {
		return infrav1.HostPreparing, err
	}
	payload, err := r.payload(ctx, s)
	if err != nil {
		return infrav1.HostPreparing, r.blocked(s, err)
	}
	err = r.call(ctx, s, func(ctx context.Context, d driver.Driver) error {
		return d.Deliver(ctx, driver.Operation{ID: s.claim.Spec.ID, Payload: payload})
	})
	if err != nil {
		return infrav1.HostPreparing, r.blocked(s, err)
	}
	mark(s.host, infrav1.HostCleanCondition, metav1.ConditionFalse, infrav1.HostInUseReason, "")
	r.operation(s, infrav1.HostOperationBootstrap, s.claim.Spec.ID, driver.Progress{Phase: driver.Running})
	return infrav1.HostBootstrapping, nil
}

// delivered tells whether the claim's operation runs or has ended, so that there is nothing to be delivered.
func (r *Reconciler) delivered(ctx context.Context, s *scope) (bool, error) {
	progress, err := r.observe(ctx, s, infrav1.HostOperationBootstrap, s.claim.Spec.ID)
	return progress.Phase == driver.Running || progress.Phase == driver.Succeeded || progress.Phase == driver.Failed, err
}

// bootstrapping watches the operation. A failed one is never started again on this claim: half a join can only be
// undone by a reset, and the payload's token may have been used. The machine is to be replaced.
func (r *Reconciler) bootstrapping(ctx context.Context, s *scope) (infrav1.HostPhase, error) {
	progress, err := r.observe(ctx, s, infrav1.HostOperationBootstrap, s.claim.Spec.ID)
	if err != nil {
		return infrav1.HostBootstrapping, err
	}
	switch progress.Phase {
	case driver.Succeeded:
		return infrav1.HostRunning, nil
	case driver.Failed:
		message := strings.TrimSpace(fmt.Sprintf("%s failed: %s (exit code %d)\n%s", progress.Step, progress.Reason, progress.ExitCode, progress.Tail))
		mark(s.host, infrav1.HostBootstrappedCondition, metav1.ConditionFalse, infrav1.HostBootstrapFailedReason, message)
		return infrav1.HostBootstrapping, phase.Fatal(infrav1.HostBootstrapFailedReason,
			"%s failed: %s; delete the Machine to have it replaced, condition %s has the end of the log",
			progress.Step, progress.Reason, infrav1.HostBootstrappedCondition)
	case driver.Running:
		mark(s.host, infrav1.HostBootstrappedCondition, metav1.ConditionFalse, infrav1.HostBootstrapRunningReason, progress.Step)
		return infrav1.HostBootstrapping, phase.WaitFor(r.options.PollInterval, string(infrav1.HostBootstrapping), "%s", progress.Step)
	default:
		// Absent or Interrupted: nothing of a join happened, so it may be delivered (again).
		return infrav1.HostPreparing, nil
	}
}

func (r *Reconciler) running(_ context.Context, s *scope) (infrav1.HostPhase, error) {
	mark(s.host, infrav1.HostBootstrappedCondition, metav1.ConditionTrue, infrav1.HostBootstrapSucceededReason, "")
	mark(s.host, infrav1.HostCleanCondition, metav1.ConditionFalse, infrav1.HostInUseReason, "")
	return infrav1.HostRunning, nil
}

// releasing finds out whether what the host holds is ours to remove.
func (r *Reconciler) releasing(ctx context.Context, s *scope) (infrav1.HostPhase, error) {
	if err := r.probe(ctx, s); err != nil {
		return infrav1.HostReleasing, err
	}
	if holderOf(s.facts.OperationID, s.host, s.claim) == heldByOther && !cleanRequested(s.host) {
		v := judge(s.facts.OperationID, nil, s.host, nil)
		mark(s.host, infrav1.HostCleanCondition, metav1.ConditionFalse, v.reason, v.message)
		return infrav1.HostQuarantined, r.unlock(ctx, s)
	}
	return infrav1.HostDirty, nil
}

func (r *Reconciler) dirty(ctx context.Context, s *scope) (infrav1.HostPhase, error) {
	id := nextReset(s.host, s.claim)
	err := r.call(ctx, s, func(ctx context.Context, d driver.Driver) error { return d.Reset(ctx, id) })
	if err != nil {
		return infrav1.HostDirty, err
	}
	r.operation(s, infrav1.HostOperationReset, id, driver.Progress{Phase: driver.Running})
	return infrav1.HostCleaning, nil
}

// cleaning waits for the reset and believes only what it finds afterwards.
func (r *Reconciler) cleaning(ctx context.Context, s *scope) (infrav1.HostPhase, error) {
	last := s.host.Status.LastOperation
	if last == nil || last.Type != infrav1.HostOperationReset {
		return infrav1.HostDirty, nil
	}
	progress, err := r.observe(ctx, s, infrav1.HostOperationReset, last.ID)
	if err != nil {
		return infrav1.HostCleaning, err
	}
	switch progress.Phase {
	case driver.Succeeded:
	case driver.Running:
		mark(s.host, infrav1.HostCleanCondition, metav1.ConditionFalse, infrav1.HostCleaningReason, progress.Step)
		return infrav1.HostCleaning, phase.WaitFor(r.options.PollInterval, infrav1.HostCleaningReason, "%s", progress.Step)
	case driver.Failed:
		message := strings.TrimSpace(fmt.Sprintf("%s failed: %s (exit code %d)\n%s", progress.Step, progress.Reason, progress.ExitCode, progress.Tail))
		return infrav1.HostDirty, r.unclean(s, infrav1.HostResetFailedReason, message)
	default:
		return infrav1.HostDirty, nil
	}
	if err := r.inspect(ctx, s); err != nil {
		return infrav1.HostCleaning, err
	}
	if findings := s.leftovers(); len(findings) > 0 {
		last.State = stateUnverified
		return infrav1.HostDirty, r.unclean(s, infrav1.HostNotCleanReason, "left after the reset: "+strings.Join(findings, "; "))
	}
	if s.claim != nil && !s.claim.DeletionTimestamp.IsZero() {
		if err := r.unlock(ctx, s); err != nil {
			return infrav1.HostCleaning, err
		}
	}
	return r.settle(ctx, s, infrav1.HostCleaning)
}

// quarantined comes back by itself only to a host whose content is known to be ours; a foreign one waits for a person.
func (r *Reconciler) quarantined(ctx context.Context, s *scope) (infrav1.HostPhase, error) {
	if s.host.Annotations[infrav1.ReleasedClaimAnnotation] == "" && !cleanRequested(s.host) {
		return infrav1.HostQuarantined, nil
	}
	if err := r.inspect(ctx, s); err != nil {
		return infrav1.HostQuarantined, err
	}
	return r.settle(ctx, s, infrav1.HostQuarantined)
}
