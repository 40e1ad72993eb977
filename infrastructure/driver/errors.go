// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"fmt"
	"strings"
)

// UnreachableError: no answer, or the connection broke. Trying again may help.
type UnreachableError struct {
	Address string
	Err     error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("host %s unreachable: %v", e.Address, e.Err)
}

// Unwrap gives the network's error.
func (e *UnreachableError) Unwrap() error { return e.Err }

// AuthFailedError: the host is the right one and refuses us, at login or at sudo. Trying the same key again is
// pointless until somebody changes it or the host.
type AuthFailedError struct {
	Address, User string
	// Stage is "login" or "sudo".
	Stage string
	Err   error
}

func (e *AuthFailedError) Error() string {
	return fmt.Sprintf("%s of user %s refused by host %s: %v", e.Stage, e.User, e.Address, e.Err)
}

// Unwrap gives the cause.
func (e *AuthFailedError) Unwrap() error { return e.Err }

// HostKeyMismatchError: the host presented a key that is not pinned, or none of a pinned type. Nothing was sent to it.
type HostKeyMismatchError struct {
	Address string
	// Presented is the SHA256 fingerprint of the key seen, empty when the host has no key of a pinned type.
	Presented string
}

func (e *HostKeyMismatchError) Error() string {
	if e.Presented == "" {
		return fmt.Sprintf("host %s offers no host key of a pinned type", e.Address)
	}
	return fmt.Sprintf("host %s presented host key %s, which is not pinned", e.Address, e.Presented)
}

// HostKeyUnpinnedError: the target names no host key. No connection was made.
type HostKeyUnpinnedError struct{ Address string }

func (e *HostKeyUnpinnedError) Error() string {
	return fmt.Sprintf("no host key is pinned for host %s", e.Address)
}

// InvalidTargetError: a field of Target, or an operation's name, can't be used. No connection was made.
type InvalidTargetError struct{ Field, Reason string }

func (e *InvalidTargetError) Error() string { return fmt.Sprintf("invalid %s: %s", e.Field, e.Reason) }

// OperationFailedError: something ran on the host and did not succeed.
type OperationFailedError struct {
	Reason   string
	ExitCode int
	// Tail is the redacted end of the log.
	Tail string
}

func (e *OperationFailedError) Error() string {
	return fmt.Sprintf("operation failed on the host: %s (exit code %d)", e.Reason, e.ExitCode)
}

// NotCleanError: the host holds something of another cluster or operation.
type NotCleanError struct{ Findings []string }

func (e *NotCleanError) Error() string { return "host is not clean: " + strings.Join(e.Findings, "; ") }
