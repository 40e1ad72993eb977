// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"slices"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
)

var _ driver.Driver = (*connection)(nil)

// Probe returns the host's facts.
func (c *connection) Probe(ctx context.Context) (facts driver.Facts, err error) {
	err = c.do(ctx, CallProbe, func(h *Host) error {
		facts = h.Facts
		facts.BootID, facts.OperationID = h.bootID(), h.holder
		facts.KubeletActive = slices.Contains(h.leftovers, "kubelet is active")
		return nil
	})
	return facts, err
}

// Deliver starts a bootstrap or attaches to it.
func (c *connection) Deliver(ctx context.Context, op driver.Operation) error {
	if !driver.ValidID(op.ID) {
		return &driver.InvalidTargetError{Field: "operation", Reason: "not a valid id"}
	}
	return c.do(ctx, CallDeliver, func(h *Host) error {
		if known := h.operations[op.ID]; known != nil && known.Phase != driver.Interrupted {
			return nil
		}
		if h.holder != "" && h.holder != op.ID {
			return &driver.NotCleanError{Findings: []string{"operation " + h.holder + " holds the host and was not reset"}}
		}
		for _, other := range h.operations {
			if other.Phase == driver.Running {
				return &driver.NotCleanError{Findings: []string{"another operation is running"}}
			}
		}
		started := &operation{}
		started.PayloadHash = op.Payload.Hash
		if h.Bootstrap != nil {
			started.outcome = h.Bootstrap(op)
		}
		h.holder = op.ID
		h.begin(op.ID, started)
		return nil
	})
}

// Observe tells how far an operation is and lets it take a step.
func (c *connection) Observe(ctx context.Context, id string) (progress driver.Progress, err error) {
	if !driver.ValidID(id) {
		return progress, &driver.InvalidTargetError{Field: "operation", Reason: "not a valid id"}
	}
	progress.Phase = driver.Absent
	err = c.do(ctx, CallObserve, func(h *Host) error {
		if op := h.operations[id]; op != nil {
			h.advance(id, op)
			progress = op.Progress
		}
		return nil
	})
	return progress, err
}

// Reset starts a reset or attaches to it.
func (c *connection) Reset(ctx context.Context, id string) error {
	if !driver.ValidID(id) {
		return &driver.InvalidTargetError{Field: "operation", Reason: "not a valid id"}
	}
	return c.do(ctx, CallReset, func(h *Host) error {
		known := h.operations[id]
		switch {
		case known != nil && !known.reset:
			return &driver.NotCleanError{Findings: []string{"operation " + id + " is a bootstrap, not a reset"}}
		case known != nil && (known.Phase == driver.Running || known.Phase == driver.Succeeded):
			return nil
		}
		if running := h.operations[h.holder]; running != nil && running.Phase == driver.Running {
			running.Phase, running.Reason, running.ExitCode = driver.Failed, "stopped by a reset", 137
		}
		h.begin(id, &operation{reset: true, outcome: h.ResetOutcome})
		return nil
	})
}

// VerifyClean returns what the host was told to have, and what operations left.
func (c *connection) VerifyClean(ctx context.Context) (report driver.Report, err error) {
	err = c.do(ctx, CallVerifyClean, func(h *Host) error {
		if h.holder != "" {
			report.Findings = append(report.Findings, "operation "+h.holder+" holds the host")
		}
		report.Findings = append(report.Findings, h.leftovers...)
		return nil
	})
	return report, err
}

// Close makes later calls fail.
func (c *connection) Close() error {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	c.closed = true
	return nil
}
