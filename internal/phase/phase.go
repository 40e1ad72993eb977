// SPDX-License-Identifier: Apache-2.0

// Package phase runs the ordered steps of a reconciler and turns each outcome into a condition.
//
// A step has one of three failure outcomes, and only this package decides what each means for the queue:
//
//	Wait   somebody else must move; the object is reconciled again by a watch, or after the given time
//	Fatal  the user must change something; the object is not retried
//	other  an error of the environment; retried with the work queue's back-off
//
// A conflict is none of them: somebody wrote an object between our read and our write, so the pass has no verdict.
// It is repeated in a moment and leaves every condition as it was.
package phase

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
)

// Reasons that this package writes itself; steps bring their own by Wait and Fatal.
const (
	// ReasonDone marks a step whose work is finished and current.
	ReasonDone = "Done"
	// ReasonError marks a step that failed for a reason outside the object and is retried.
	ReasonError = "Error"
	// ReasonEarlierStep marks a step that was not reached in the last pass.
	ReasonEarlierStep = "WaitingForEarlierStep"
)

// Ready is the summary condition: true when every step is done.
const Ready = "Ready"

const (
	// conflictRetry is how soon a pass is repeated that lost a race for an object, or that has read an old copy from
	// the cache: time enough for it to hear of the other's write, and little for who waits for a new object.
	conflictRetry = 10 * time.Millisecond
	// maxMessage bounds a message in bytes, with room for a step's name in front. The API server refuses a condition
	// with more than 32768 characters, and with it the whole status.
	maxMessage = 32<<10 - 512
)

// Step is one stage of a reconciler. Condition names the condition that reports it; Run must be idempotent.
type Step[S any] struct {
	Condition string
	Run       func(ctx context.Context, scope S) error
}

type stop struct {
	reason, message string
	after           time.Duration
	fatal           bool
}

func (s *stop) Error() string { return s.reason + ": " + s.message }

// Wait stops the pass until somebody else moves; a watch must bring the object back.
// The message names what is awaited and, where the user can help, the cure.
func Wait(reason, format string, args ...any) error {
	return &stop{reason: reason, message: fmt.Sprintf(format, args...)}
}

// WaitFor is Wait for what no watch can report: the object comes back after d.
func WaitFor(d time.Duration, reason, format string, args ...any) error {
	return &stop{reason: reason, message: fmt.Sprintf(format, args...), after: d}
}

// Fatal stops the pass until the user changes the object; the message names the field, its value and the cure.
func Fatal(reason, format string, args ...any) error {
	return &stop{reason: reason, message: fmt.Sprintf(format, args...), fatal: true}
}

// IsFatal tells whether err, or one it wraps, came from Fatal.
func IsFatal(err error) bool {
	var s *stop
	return errors.As(err, &s) && s.fatal
}

// IsWait tells whether err, or one it wraps, came from Wait or WaitFor.
func IsWait(err error) bool {
	var s *stop
	return errors.As(err, &s) && !s.fatal
}

// News returns the Ready condition of after when its status or reason is another than before, and nil when it only
// repeats what was told. It is what Events are made from.
func News(before, after []metav1.Condition) *metav1.Condition {
	was, is := meta.FindStatusCondition(before, Ready), meta.FindStatusCondition(after, Ready)
	if is == nil || was != nil && was.Status == is.Status && was.Reason == is.Reason {
		return nil
	}
	return is
}

// Outcome splits err into what a condition says about it.
func Outcome(err error) (reason, message string) {
	var s *stop
	switch {
	case err == nil:
		return ReasonDone, ""
	case errors.As(err, &s):
		return s.reason, short(s.message)
	default:
		return ReasonError, short(err.Error())
	}
}

// short cuts what exceeds maxMessage, between characters.
func short(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage], "") + " …"
}

// Result turns err into what Reconcile returns: the one place where outcomes meet the work queue.
func Result(err error) (ctrl.Result, error) {
	var s *stop
	switch {
	case errors.As(err, &s):
		return ctrl.Result{RequeueAfter: s.after}, nil
	case apierrors.IsConflict(err):
		return Again(), nil
	}
	return ctrl.Result{}, err
}

// Again is the result of a pass that ends without a verdict, because what it has read is no longer true.
func Again() ctrl.Result { return ctrl.Result{RequeueAfter: conflictRetry} }

// Run executes steps in order until one fails, sets the condition of each in conditions, and Ready as their summary.
// Steps after the failing one keep their last verdict when that was True, since nothing has undone their work, and are Unknown otherwise.
// A conflict changes no verdict, and no step after it runs.
// The returned error is the failing step's own; give it to Result after the status was patched.
func Run[S any](ctx context.Context, conditions *[]metav1.Condition, generation int64, steps []Step[S], scope S) error {
	for i, step := range steps {
		err := step.Run(ctx, scope)
		if apierrors.IsConflict(err) {
			return err
		}
		Report(conditions, generation, step.Condition, err)
		if err == nil {
			continue
		}
		for _, later := range steps[i+1:] {
			if !meta.IsStatusConditionTrue(*conditions, later.Condition) {
				meta.SetStatusCondition(conditions, metav1.Condition{
					Type: later.Condition, Status: metav1.ConditionUnknown, Reason: ReasonEarlierStep,
					Message: "waits for " + step.Condition, ObservedGeneration: generation,
				})
			}
		}
		reason, message := Outcome(err)
		meta.SetStatusCondition(conditions, metav1.Condition{
			Type: Ready, Status: metav1.ConditionFalse, Reason: reason,
			Message: step.Condition + ": " + message, ObservedGeneration: generation,
		})
		return err
	}
	Report(conditions, generation, Ready, nil)
	return nil
}

// Report sets the condition of a kind to what err says, which is nil or came from a step.
func Report(conditions *[]metav1.Condition, generation int64, kind string, err error) {
	reason, message := Outcome(err)
	status := metav1.ConditionTrue
	if err != nil {
		status = metav1.ConditionFalse
	}
	meta.SetStatusCondition(conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: generation,
	})
}
