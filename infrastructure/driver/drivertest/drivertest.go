// SPDX-License-Identifier: Apache-2.0

// Package drivertest is the contract that every driver keeps, as a test suite.
package drivertest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/bootstrap"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
)

// Behaviour is what a payload does on the host.
type Behaviour string

const (
	// Joins succeeds.
	Joins Behaviour = "joins"
	// FailsToJoin begins the join, prints Token and PEM, and fails.
	FailsToJoin Behaviour = "fails to join"
	// HangsBefore never comes to the join.
	HangsBefore Behaviour = "hangs before the join"
	// HangsIn never leaves the join.
	HangsIn Behaviour = "hangs in the join"
)

// Token and PEM are secrets that FailsToJoin prints.
const (
	Token = "abcdef.0123456789abcdef"
	PEM   = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----"
)

// Host is a clean host and what the suite needs to know about it.
type Host interface {
	// Dial and Target reach the host.
	Dial(ctx context.Context, target driver.Target) (driver.Driver, error)
	Target() driver.Target
	// WrongHostKey and WrongPrivateKey are well formed, and not the host's.
	WrongHostKey() string
	WrongPrivateKey() []byte
	// Payload with a behaviour. It writes at least one file.
	Payload(b Behaviour) bootstrap.Payload
	// Reboot the host, or do what has the same effect on operations.
	Reboot(t *testing.T)
	// Joins counts how often a join was begun since the host was made.
	Joins(t *testing.T) int
}

// Run puts a driver to the test. It calls fresh for a clean host before each case.
func Run(t *testing.T, fresh func(t *testing.T) Host) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s *session)
	}{
		{"a probe tells what the host is", probes},
		{"only pinned hosts are talked to", pins},
		{"only valid names are used", names},
		{"a delivered payload succeeds", succeeds},
		{"delivering again attaches", attaches},
		{"a failed join is told without secrets", fails},
		{"a second claim is refused", refuses},
		{"a reboot before the join allows delivery again", redelivers},
		{"a reboot in the join needs a reset", needsReset},
		{"a reset makes room for the next claim", resets},
		{"a reset ends a running bootstrap", stops},
		{"a lost connection does not stop an operation", survives},
		{"an ended context ends the call", cancels},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t, fresh(t))) })
	}
}

// session is an open driver in a test.
type session struct {
	Host
	driver.Driver
}

func open(t *testing.T, h Host) *session {
	t.Helper()
	d, err := h.Dial(t.Context(), h.Target())
	if err != nil {
		t.Fatalf("dialling: %v", err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return &session{Host: h, Driver: d}
}

func (s *session) deliver(t *testing.T, id string, b Behaviour) {
	t.Helper()
	if err := s.Deliver(t.Context(), driver.Operation{ID: id, Payload: s.Payload(b)}); err != nil {
		t.Fatalf("delivering %s: %v", id, err)
	}
}

// until observes an operation till ok says so.
func (s *session) until(t *testing.T, id string, what string, ok func(driver.Progress) bool) driver.Progress {
	t.Helper()
	for {
		p, err := s.Observe(t.Context(), id)
		if err != nil {
			t.Fatalf("observing %s: %v", id, err)
		}
		if ok(p) {
			return p
		}
		if p.Phase != driver.Running {
			t.Fatalf("%s is %s (%s), want %s; log:\n%s", id, p.Phase, p.Reason, what, p.Tail)
		}
	}
}

func (s *session) reach(t *testing.T, id string, phase driver.Phase) driver.Progress {
	t.Helper()
	return s.until(t, id, string(phase), func(p driver.Progress) bool { return p.Phase == phase })
}

// inJoin waits for the join itself: it is told to have begun a moment before it does.
func (s *session) inJoin(t *testing.T, id string) {
	t.Helper()
	s.until(t, id, "in the join", func(p driver.Progress) bool {
		return p.JoinStarted && p.Phase == driver.Running && s.Joins(t) > 0
	})
}

func (s *session) reset(t *testing.T, id string) {
	t.Helper()
	if err := s.Reset(t.Context(), id); err != nil {
		t.Fatalf("resetting: %v", err)
	}
	s.reach(t, id, driver.Succeeded)
}

func (s *session) wantJoins(t *testing.T, want int) {
	t.Helper()
	if got := s.Joins(t); got != want {
		t.Errorf("the join was begun %d times, want %d", got, want)
	}
}

func probes(t *testing.T, s *session) {
	f, err := s.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f.Hostname == "" || f.BootID == "" || f.Architecture == "" || f.Kernel == "" || f.CPUs < 1 || f.MemoryBytes < 1<<20 {
		t.Errorf("facts are incomplete: %+v", f)
	}
	if f.OperationID != "" || f.KubeletActive || len(f.Missing) > 0 {
		t.Errorf("a clean host reports %+v", f)
	}
	s.deliver(t, "claim-a", Joins)
	s.reach(t, "claim-a", driver.Succeeded)
	if f, err = s.Probe(t.Context()); err != nil || f.OperationID != "claim-a" {
		t.Errorf("the holder is %q, %v, want claim-a", f.OperationID, err)
	}
}

func pins(t *testing.T, s *session) {
	try := func(change func(*driver.Target)) error {
		target := s.Target()
		change(&target)
		d, err := s.Dial(t.Context(), target)
		if err == nil {
			_ = d.Close()
		}
		return err
	}
	var unpinned *driver.HostKeyUnpinnedError
	if err := try(func(t *driver.Target) { t.HostKeys = nil }); !errors.As(err, &unpinned) {
		t.Errorf("without pinned keys: %v, want HostKeyUnpinnedError", err)
	}
	var mismatch *driver.HostKeyMismatchError
	if err := try(func(t *driver.Target) { t.HostKeys = []string{s.WrongHostKey()} }); !errors.As(err, &mismatch) {
		t.Errorf("with another key pinned: %v, want HostKeyMismatchError", err)
	}
	if err := try(func(t *driver.Target) { t.HostKeys = append([]string{s.WrongHostKey()}, t.HostKeys...) }); err != nil {
		t.Errorf("with one of two keys matching: %v", err)
	}
	var auth *driver.AuthFailedError
	if err := try(func(t *driver.Target) { t.PrivateKey = s.WrongPrivateKey() }); !errors.As(err, &auth) {
		t.Errorf("with another private key: %v, want AuthFailedError", err)
	}
	var unreachable *driver.UnreachableError
	if err := try(func(t *driver.Target) { t.Address = "127.0.0.1"; t.Port = 1 }); !errors.As(err, &unreachable) {
		t.Errorf("at a closed port: %v, want UnreachableError", err)
	}
}

func names(t *testing.T, s *session) {
	var invalid *driver.InvalidTargetError
	for _, id := range []string{"", "../etc", "a b", "A", "-a", strings.Repeat("a", 64), "a;reboot", "a\n"} {
		if err := s.Deliver(t.Context(), driver.Operation{ID: id, Payload: s.Payload(Joins)}); !errors.As(err, &invalid) {
			t.Errorf("Deliver %q: %v, want InvalidTargetError", id, err)
		}
		if _, err := s.Observe(t.Context(), id); !errors.As(err, &invalid) {
			t.Errorf("Observe %q: %v, want InvalidTargetError", id, err)
		}
		if err := s.Reset(t.Context(), id); !errors.As(err, &invalid) {
			t.Errorf("Reset %q: %v, want InvalidTargetError", id, err)
		}
	}
	s.wantJoins(t, 0)
}

func succeeds(t *testing.T, s *session) {
	if p, err := s.Observe(t.Context(), "claim-a"); err != nil || p.Phase != driver.Absent {
		t.Fatalf("before delivery: %s, %v, want Absent", p.Phase, err)
	}
	s.deliver(t, "claim-a", Joins)
	p := s.reach(t, "claim-a", driver.Succeeded)
	if !p.JoinStarted || p.PayloadHash != s.Payload(Joins).Hash || p.BootID == "" || p.Err() != nil {
		t.Errorf("progress is %+v", p)
	}
	s.wantJoins(t, 1)
	report, err := s.VerifyClean(t.Context())
	if err != nil || report.Clean() {
		t.Errorf("a joined host is reported clean (%v)", err)
	}
	var dirty *driver.NotCleanError
	if !errors.As(report.Err(), &dirty) {
		t.Errorf("report's error is %v", report.Err())
	}
}

func attaches(t *testing.T, s *session) {
	s.deliver(t, "claim-a", Joins)
	s.deliver(t, "claim-a", Joins)
	s.reach(t, "claim-a", driver.Succeeded)
	s.deliver(t, "claim-a", FailsToJoin)
	s.Reboot(t)
	s = open(t, s.Host)
	s.deliver(t, "claim-a", Joins)
	s.reach(t, "claim-a", driver.Succeeded)
	s.wantJoins(t, 1)
}

func fails(t *testing.T, s *session) {
	s.deliver(t, "claim-a", FailsToJoin)
	p := s.reach(t, "claim-a", driver.Failed)
	if p.Reason == "" || !p.JoinStarted || p.Tail == "" {
		t.Errorf("a failure is told as %+v", p)
	}
	if text := p.Reason + p.Tail; strings.Contains(text, Token) || strings.Contains(text, strings.Split(PEM, "\n")[1]) {
		t.Errorf("secrets are told: %s", text)
	}
	var failed *driver.OperationFailedError
	if !errors.As(p.Err(), &failed) || failed.Tail != p.Tail {
		t.Errorf("error of a failed operation is %v", p.Err())
	}
	s.deliver(t, "claim-a", Joins)
	s.reach(t, "claim-a", driver.Failed)
	s.wantJoins(t, 1)
}

func refuses(t *testing.T, s *session) {
	s.deliver(t, "claim-a", FailsToJoin)
	s.reach(t, "claim-a", driver.Failed)
	var dirty *driver.NotCleanError
	err := s.Deliver(t.Context(), driver.Operation{ID: "claim-b", Payload: s.Payload(Joins)})
	if !errors.As(err, &dirty) || len(dirty.Findings) == 0 {
		t.Errorf("a second claim: %v, want NotCleanError", err)
	}
	if err := s.Reset(t.Context(), "claim-a"); !errors.As(err, &dirty) {
		t.Errorf("a reset under the name of a bootstrap: %v, want NotCleanError", err)
	}
	s.wantJoins(t, 1)
}

func redelivers(t *testing.T, s *session) {
	s.deliver(t, "claim-a", HangsBefore)
	if p, err := s.Observe(t.Context(), "claim-a"); err != nil || p.Phase != driver.Running {
		t.Fatalf("a hanging operation is %s, %v", p.Phase, err)
	}
	s.Reboot(t)
	s = open(t, s.Host)
	if p := s.reach(t, "claim-a", driver.Interrupted); p.JoinStarted {
		t.Errorf("the join is told to have begun")
	}
	s.deliver(t, "claim-a", Joins)
	s.reach(t, "claim-a", driver.Succeeded)
	s.wantJoins(t, 1)
}

func needsReset(t *testing.T, s *session) {
	s.deliver(t, "claim-a", HangsIn)
	s.inJoin(t, "claim-a")
	s.Reboot(t)
	s = open(t, s.Host)
	s.reach(t, "claim-a", driver.Failed)
	s.deliver(t, "claim-a", Joins)
	s.reach(t, "claim-a", driver.Failed)
	s.wantJoins(t, 1)
	s.reset(t, "reset-a")
	s.deliver(t, "claim-a", Joins)
	s.reach(t, "claim-a", driver.Succeeded)
	s.wantJoins(t, 2)
}

func resets(t *testing.T, s *session) {
	if report, err := s.VerifyClean(t.Context()); err != nil || !report.Clean() {
		t.Fatalf("a fresh host is not clean: %v, %v", report.Findings, err)
	}
	for _, claim := range []string{"a", "b"} {
		s.deliver(t, "claim-"+claim, Joins)
		s.reach(t, "claim-"+claim, driver.Succeeded)
		s.reset(t, "reset-"+claim)
		s.reset(t, "reset-"+claim)
		if report, err := s.VerifyClean(t.Context()); err != nil || !report.Clean() {
			t.Fatalf("after a reset: %v, %v", report.Findings, err)
		}
		if p, err := s.Observe(t.Context(), "claim-"+claim); err != nil || p.Phase != driver.Absent {
			t.Errorf("a reset claim is %s, %v, want Absent", p.Phase, err)
		}
	}
	s.wantJoins(t, 2)
}

func stops(t *testing.T, s *session) {
	s.deliver(t, "claim-a", HangsIn)
	s.inJoin(t, "claim-a")
	s.reset(t, "reset-a")
	if report, err := s.VerifyClean(t.Context()); err != nil || !report.Clean() {
		t.Errorf("after a reset: %v, %v", report.Findings, err)
	}
}

func survives(t *testing.T, s *session) {
	s.deliver(t, "claim-a", HangsIn)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var unreachable *driver.UnreachableError
	if _, err := s.Observe(t.Context(), "claim-a"); !errors.As(err, &unreachable) {
		t.Errorf("after Close: %v, want UnreachableError", err)
	}
	s = open(t, s.Host)
	s.inJoin(t, "claim-a")
	s.wantJoins(t, 1)
}

func cancels(t *testing.T, s *session) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"Deliver": s.Deliver(ctx, driver.Operation{ID: "claim-a", Payload: s.Payload(Joins)}),
		"Reset":   s.Reset(ctx, "reset-a"),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want the context's error", name, err)
		}
	}
	if d, err := s.Dial(ctx, s.Target()); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial: %v, %v, want the context's error", d, err)
	}
}

// Commands of a kubeadm worker's runcmd around a join.
func Commands(before ...string) bootstrap.Script {
	all := append(slices.Clone(before), "kubeadm join --config "+bootstrap.JoinConfigPath+" && echo success > "+bootstrap.Sentinel)
	return bootstrap.Script{Name: "runcmd", Commands: all, Join: len(before)}
}
