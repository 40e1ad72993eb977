// SPDX-License-Identifier: Apache-2.0

package migration

import (
	"fmt"
	"time"
)

// Action is what the reconciler has to do now.
type Action string

// The actions. Each is safe to repeat.
const (
	// Wait for a job, a pod or a time.
	Wait Action = "Wait"
	// RunPrepare, RunCopy and RunSeal start a job, or start it again after an error that may pass.
	RunPrepare Action = "RunPrepare"
	RunCopy    Action = "RunCopy"
	RunSeal    Action = "RunSeal"
	RunClean   Action = "RunClean"
	// BeginCopy, BeginStop, Switch and Finish go to the next step.
	BeginCopy Action = "BeginCopy"
	BeginStop Action = "BeginStop"
	Switch    Action = "Switch"
	Finish    Action = "Finish"
	// StopPods deletes the Deployment of the source, or on the way back of the target.
	StopPods Action = "StopPods"
	// Return begins the way back, Thaw is its last step.
	Return Action = "Return"
	Thaw   Action = "Thaw"
	// Serve lets the other steps of the reconciler do their work.
	Serve Action = "Serve"
)

// Facts are what Next decides from.
type Facts struct {
	Now time.Time
	// Wanted is the DataStore that the spec names.
	Wanted string
	// Job is how the job of the present step stands.
	Job State
	// JobError is why it failed.
	JobError error
	// Permanent says that running it again is of no use.
	Permanent bool
	// PodsGone says that no Deployment of the tenant is left.
	PodsGone bool
	// Serves says that the control plane is ready, or sleeps as it should.
	Serves bool
	Options
}

// Decision is what to do, until when nothing else can happen, and why.
type Decision struct {
	Action Action
	// At is when the answer may become another although nothing happens.
	At time.Time
	// Reason and Message explain Return.
	Reason, Message string
}

// Reasons why a tenant returns to its source.
const (
	CancelledReason = "MigrationCancelled"
	TimeoutReason   = "MigrationTimedOut"
	FailedReason    = "MigrationFailed"
)

// Next decides. It has no side effect.
func (r *Record) Next(f Facts) Decision {
	if r.Wanted(f.Wanted) || r.Step == Returning || r.Step == Cleaning {
		return r.next(f)
	}
	switch r.Step {
	case Preparing, Copying, Stopping:
		return Decision{Action: Return, Reason: CancelledReason, Message: fmt.Sprintf("spec.dataStore is %s again or another, and not %s any more", f.Wanted, r.Target)}
	default:
		return r.next(f)
	}
}

// Wanted says that the record is about what the spec asks for.
func (r *Record) Wanted(store string) bool { return store == r.Target }

func (r *Record) next(f Facts) Decision {
	switch r.Step {
	case Preparing:
		return r.job(f, RunPrepare, Decision{Action: BeginCopy})
	case Copying:
		if late := r.late(f); late != nil {
			return *late
		}
		if until := r.Frozen.Add(f.MinimumFreeze); f.Job == Succeeded && f.Now.Before(until) {
			return Decision{Action: Wait, At: until}
		}
		return r.job(f, RunCopy, Decision{Action: BeginStop})
	case Stopping:
		if late := r.late(f); late != nil {
			return *late
		}
		if end := r.Stopping.Add(patience); !f.PodsGone && f.Now.Before(end) {
			return Decision{Action: StopPods, At: end}
		}
		return r.job(f, RunSeal, Decision{Action: Switch})
	case Switched:
		if f.Serves {
			return Decision{Action: Finish}
		}
		if end := r.Switched.Add(f.Timeout); f.Now.Before(end) {
			return Decision{Action: Serve, At: end}
		}
		return Decision{Action: Return, Reason: TimeoutReason,
			Message: fmt.Sprintf("no pod became ready with DataStore %s within %s", r.Target, f.Timeout)}
	case Cleaning:
		return r.job(f, RunClean, Decision{Action: Finish})
	case Returning:
		if !r.Switched.IsZero() && !f.PodsGone {
			return Decision{Action: StopPods, At: f.Now.Add(time.Second)}
		}
		return Decision{Action: Thaw}
	default:
		return Decision{Action: Serve}
	}
}

// late gives up when writes have been refused for too long.
func (r *Record) late(f Facts) *Decision {
	if r.Frozen.IsZero() || f.Now.Before(r.Frozen.Add(f.Timeout)) {
		return nil
	}
	message := fmt.Sprintf("writes were refused for %s, step %s is not done", f.Timeout, r.Step)
	if f.JobError != nil {
		message += ": " + f.JobError.Error()
	}
	return &Decision{Action: Return, Reason: TimeoutReason, Message: message}
}

// job runs one until it has succeeded, then goes on.
func (r *Record) job(f Facts, run Action, then Decision) Decision {
	switch f.Job {
	case Succeeded:
		return then
	case Running:
		d := Decision{Action: Wait}
		if !r.Frozen.IsZero() && r.Step != Cleaning {
			d.At = r.Frozen.Add(f.Timeout)
		}
		return d
	case Broken:
		if f.Permanent && r.Step != Cleaning {
			return Decision{Action: Return, Reason: FailedReason, Message: f.JobError.Error()}
		}
	}
	return Decision{Action: run}
}
