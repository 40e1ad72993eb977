// SPDX-License-Identifier: Apache-2.0

// Package fake is a driver whose hosts live in memory, for tests of whatever uses a driver. It passes the same
// contract suite as the real one, and can be told to fail at any call.
package fake

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
)

// Fleet is a network of hosts by address. The zero value is an empty one.
type Fleet struct {
	mu    sync.Mutex
	hosts map[string]*Host
}

// Add puts a host at an address; the port is not looked at.
func (f *Fleet) Add(address string, h *Host) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hosts == nil {
		f.hosts = map[string]*Host{}
	}
	f.hosts[address] = h
}

// Dial is a driver.Dialer.
func (f *Fleet) Dial(ctx context.Context, target driver.Target) (driver.Driver, error) {
	f.mu.Lock()
	h := f.hosts[target.Address]
	f.mu.Unlock()
	if len(target.HostKeys) == 0 {
		return nil, &driver.HostKeyUnpinnedError{Address: target.Address}
	}
	if h == nil {
		return nil, &driver.UnreachableError{Address: target.Address, Err: errors.New("no route to host")}
	}
	c := &connection{host: h, target: target}
	if err := c.do(ctx, CallDial, c.login); err != nil {
		return nil, err
	}
	return c, nil
}

// Call names a method of the driver for FailNext.
type Call string

// The calls that can be made to fail.
const (
	CallDial        Call = "Dial"
	CallProbe       Call = "Probe"
	CallDeliver     Call = "Deliver"
	CallObserve     Call = "Observe"
	CallReset       Call = "Reset"
	CallVerifyClean Call = "VerifyClean"
)

// Outcome is how an operation ends.
type Outcome struct {
	// Hangs: it never ends by itself.
	Hangs bool
	// NoJoin: it ends, or hangs, before the join begins.
	NoJoin bool
	// Failure is the reason of a failed operation, empty for success.
	Failure string
	// Log is what it printed.
	Log string
	// Observations that say Running before one tells the end.
	Observations int
}

// Host is one machine. Set the exported fields before use.
type Host struct {
	// Facts that Probe returns; BootID, OperationID and KubeletActive are kept up to date by the host.
	Facts driver.Facts
	// HostKey the host presents, empty for whatever the target pins.
	HostKey string
	// PrivateKey the host lets in, empty for any.
	PrivateKey string
	// Bootstrap decides how a delivered operation ends; nil means success.
	Bootstrap func(driver.Operation) Outcome
	// ResetOutcome of the resets to come.
	ResetOutcome Outcome

	mu         sync.Mutex
	operations map[string]*operation
	holder     string
	leftovers  []string
	faults     map[Call][]error
	down       error
	boots      int
	joins      int
}

type operation struct {
	driver.Progress
	reset   bool
	outcome Outcome
}

// FailNext makes the next calls of this kind return these errors, one each, without doing anything.
func (h *Host) FailNext(call Call, errs ...error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.faults == nil {
		h.faults = map[Call][]error{}
	}
	h.faults[call] = append(h.faults[call], errs...)
}

// SetDown cuts the host off, with the error that callers see inside UnreachableError; nil brings it back. Operations go on.
func (h *Host) SetDown(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = err
}

// SetLeftovers makes VerifyClean find things, as if another cluster had used the host.
func (h *Host) SetLeftovers(findings ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leftovers = findings
}

// Reboot ends what runs.
func (h *Host) Reboot() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.boots++
	for _, op := range h.operations {
		if op.Phase != driver.Running {
			continue
		}
		op.Phase, op.Reason = driver.Interrupted, "stopped by a reboot"
		if op.JoinStarted {
			op.Phase, op.ExitCode = driver.Failed, 255
		}
	}
}

// Joins counts how often a join was begun.
func (h *Host) Joins() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.joins
}

func (h *Host) bootID() string { return h.Facts.BootID + "-" + strconv.Itoa(h.boots) }

// begin starts an operation; the caller holds the lock.
func (h *Host) begin(id string, op *operation) {
	if h.operations == nil {
		h.operations = map[string]*operation{}
	}
	op.Phase, op.Step, op.BootID = driver.Running, "start", h.bootID()
	h.operations[id] = op
	if op.reset || op.outcome.NoJoin {
		return
	}
	h.joins++
	op.JoinStarted, op.Step = true, "runcmd"
	h.leftovers = append(h.leftovers, "kubelet is active")
}

// advance brings an observed operation forward; the caller holds the lock.
func (h *Host) advance(id string, op *operation) {
	if op.Phase != driver.Running || op.outcome.Hangs {
		return
	}
	if op.outcome.Observations > 0 {
		op.outcome.Observations--
		return
	}
	op.Tail = driver.Tail(op.outcome.Log)
	if op.outcome.Failure != "" {
		op.Phase, op.Reason, op.ExitCode = driver.Failed, op.outcome.Failure, 1
		return
	}
	op.Phase = driver.Succeeded
	if op.reset {
		h.holder, h.leftovers = "", nil
		for other := range h.operations {
			if other != id {
				delete(h.operations, other)
			}
		}
	}
}

// connection is a driver for one host.
type connection struct {
	host   *Host
	target driver.Target
	closed bool
}

// do runs one call under the host's lock, unless the host is down or was told to fail.
func (c *connection) do(ctx context.Context, call Call, run func(h *Host) error) error {
	h := c.host
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return &driver.UnreachableError{Address: c.target.Address, Err: ctx.Err()}
	case h.down != nil:
		return &driver.UnreachableError{Address: c.target.Address, Err: h.down}
	case c.closed:
		return &driver.UnreachableError{Address: c.target.Address, Err: errors.New("connection closed")}
	}
	if queue := h.faults[call]; len(queue) > 0 {
		h.faults[call] = queue[1:]
		return queue[0]
	}
	return run(h)
}

func (c *connection) login(h *Host) error {
	if h.HostKey != "" && !slices.Contains(c.target.HostKeys, h.HostKey) {
		return &driver.HostKeyMismatchError{Address: c.target.Address, Presented: h.HostKey}
	}
	if h.PrivateKey != "" && string(c.target.PrivateKey) != h.PrivateKey {
		return &driver.AuthFailedError{Address: c.target.Address, User: c.target.User, Stage: "login", Err: errors.New("public key not accepted")}
	}
	return nil
}
