// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// stateUnverified is the state of a reset that the host calls successful and whose result is not clean. The host
// would take the same reset for done, so the next one gets another name.
const stateUnverified = "Unverified"

// nextReset names the reset that is due: after the claim it undoes, with a number from the second attempt on.
func nextReset(host *infrav1.RackHost, claim *infrav1.RackHostClaim) string {
	base := "reset-"
	switch released := host.Annotations[infrav1.ReleasedClaimAnnotation]; {
	case claim != nil:
		base += claim.Spec.ID
	case released != "":
		base += released
	default:
		sum := sha256.Sum256([]byte(string(host.UID) + host.Annotations[infrav1.CleanAnnotation]))
		base += hex.EncodeToString(sum[:8])
	}
	// An operation's name has at most 63 characters; the number needs a few.
	base = strings.TrimRight(base[:min(len(base), 56)], "-")
	last := host.Status.LastOperation
	if last == nil || last.Type != infrav1.HostOperationReset {
		return base
	}
	number, ok := strings.CutPrefix(last.ID, base)
	if !ok {
		return base
	}
	if last.State != stateUnverified {
		return last.ID
	}
	n, err := strconv.Atoi(strings.TrimPrefix(number, "-r"))
	if err != nil {
		n = 1
	}
	return base + "-r" + strconv.Itoa(n+1)
}

// leftovers are what an inspection after a reset found.
func (s *scope) leftovers() []string {
	if s.facts.OperationID != "" {
		return append([]string{"bootstrap " + s.facts.OperationID}, s.report.Findings...)
	}
	return s.report.Findings
}

// unclean reports a reset that did not do; another one follows.
func (r *Reconciler) unclean(s *scope, reason, message string) error {
	mark(s.host, infrav1.HostCleanCondition, metav1.ConditionFalse, reason, message)
	first, _, _ := strings.Cut(message, "\n")
	return phase.WaitFor(r.options.RetryInterval, reason, "%s", first)
}

// unlock gives the claim up, and with it the machine.
func (r *Reconciler) unlock(ctx context.Context, s *scope) error {
	claim := s.claim.DeepCopy()
	if !controllerutil.RemoveFinalizer(claim, infrav1.ClaimFinalizer) {
		return nil
	}
	err := r.Client.Patch(ctx, claim, client.MergeFromWithOptions(s.claim, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("releasing RackHostClaim %s: %w", client.ObjectKeyFromObject(claim), err)
	}
	return nil
}

// unmarkHost takes the requests off a host that is clean.
func (r *Reconciler) unmarkHost(ctx context.Context, s *scope) error {
	if s.claim == nil || !s.claim.DeletionTimestamp.IsZero() {
		s.host.Status.Claim = nil
	}
	return r.annotate(ctx, s.host, map[string]string{infrav1.ReleasedClaimAnnotation: "", infrav1.CleanAnnotation: ""})
}

// annotate sets annotations, and removes those with an empty value.
func (r *Reconciler) annotate(ctx context.Context, host *infrav1.RackHost, annotations map[string]string) error {
	updated := host.DeepCopy()
	changed := false
	for key, value := range annotations {
		have, ok := updated.Annotations[key]
		switch {
		case value == "" && ok:
			delete(updated.Annotations, key)
		case value != "" && have != value:
			metav1.SetMetaDataAnnotation(&updated.ObjectMeta, key, value)
		default:
			continue
		}
		changed = true
	}
	if !changed {
		return nil
	}
	if err := r.Client.Patch(ctx, updated, client.MergeFrom(host)); err != nil {
		return fmt.Errorf("annotating RackHost %s: %w", client.ObjectKeyFromObject(host), err)
	}
	host.Annotations = updated.Annotations
	host.ResourceVersion = updated.ResourceVersion
	return nil
}

// orAbandon bounds the phases of a release: when there is no proof of cleaning in time, or a person insists, the
// host goes into quarantine and the claim is given up, so that a dead host doesn't keep a Machine for ever.
func (r *Reconciler) orAbandon(do stage) stage {
	return func(ctx context.Context, s *scope) (infrav1.HostPhase, error) {
		next, err := do(ctx, s)
		if err == nil || s.claim == nil || s.claim.DeletionTimestamp.IsZero() {
			return next, err
		}
		left := r.options.ReleaseTimeout - r.options.Clock.Since(s.claim.DeletionTimestamp.Time)
		if _, forced := s.claim.Annotations[infrav1.ForceReleaseAnnotation]; forced || left <= 0 {
			return r.abandon(ctx, s, err)
		}
		result, failure := phase.Result(err)
		if failure != nil || result.RequeueAfter > 0 && result.RequeueAfter <= left {
			return next, err
		}
		reason, message := phase.Outcome(err)
		return next, phase.WaitFor(left, reason, "%s", message)
	}
}

// abandon records on the host first what it may still hold, in metadata, which survives what the status does not.
func (r *Reconciler) abandon(ctx context.Context, s *scope, cause error) (infrav1.HostPhase, error) {
	ctrl.LoggerFrom(ctx).Info("Releasing a claim without proof that its host is clean", "claim", s.claim.Spec.ID, "machine", s.claim.Spec.Machine.Name)
	if err := r.annotate(ctx, s.host, map[string]string{infrav1.ReleasedClaimAnnotation: s.claim.Spec.ID}); err != nil {
		return s.host.Status.Phase, err
	}
	if err := r.unlock(ctx, s); err != nil {
		return s.host.Status.Phase, err
	}
	s.host.Status.Claim = nil
	_, why := phase.Outcome(cause)
	message := fmt.Sprintf("claim %s of machine %s was given up before the host was clean (%s); it is reset as soon as it answers, until then its kubelet may be running and its Node credentials are valid",
		s.claim.Spec.ID, s.claim.Spec.Machine.Name, why)
	mark(s.host, infrav1.HostCleanCondition, metav1.ConditionFalse, infrav1.HostReleasedUncleanReason, message)
	return infrav1.HostQuarantined, phase.WaitFor(r.options.RetryInterval, infrav1.HostReleasedUncleanReason, "%s", message)
}
