// SPDX-License-Identifier: Apache-2.0

// Package driver is the seam between the rack reconcilers and a machine: six calls, typed errors, plain values.
//
// Long work never runs inside a call. Deliver and Reset start an operation on the host and return; the operation
// goes on when the connection drops or the caller restarts, and Observe tells how far it is. Operations are named
// by the caller, and starting one that the host already knows attaches to it, so every call may be repeated.
package driver

import (
	"context"
	"regexp"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/bootstrap"
)

// Target says how to reach one host and how to know that it is the right one.
type Target struct {
	// Address is an IP address or a DNS name.
	Address string
	// Port of the SSH server; 0 means 22.
	Port int32
	// User to log in as. Anyone but root needs password-less sudo.
	User string
	// PrivateKey is the client key, PEM or OpenSSH format, without passphrase.
	PrivateKey []byte
	// HostKeys are the only keys the host may present, one per entry, as in an authorized_keys file
	// ("ssh-ed25519 AAAA… comment"). Empty: HostKeyUnpinnedError, and no connection is made.
	HostKeys []string
}

// Dialer opens a Driver for one host. The context bounds the dialling only.
// Errors: UnreachableError, AuthFailedError, HostKeyMismatchError, HostKeyUnpinnedError, InvalidTargetError.
type Dialer func(ctx context.Context, target Target) (Driver, error)

// Driver acts on one host. It is safe for concurrent use. Any call may return UnreachableError when the
// connection is lost; what was started on the host goes on.
type Driver interface {
	// Probe reads what the host is. It changes nothing on it.
	Probe(ctx context.Context) (Facts, error)
	// Deliver hands the host a payload and starts it. It is a no-op when the host already runs, or has finished,
	// an operation of this ID, whatever the outcome: Observe tells it. An operation that was interrupted before
	// the join began (reboot) starts again with the payload given now.
	// NotCleanError: another operation holds the host and was not reset.
	Deliver(ctx context.Context, op Operation) error
	// Observe reports on an operation started by Deliver or Reset.
	Observe(ctx context.Context, id string) (Progress, error)
	// Reset starts taking the host back to what it was before Deliver, as an operation named id: a bootstrap still
	// running is stopped, Kubernetes removed, traces of the payload undone. No-op while that reset runs and after it
	// succeeded; a failed or interrupted one starts again, which is safe.
	Reset(ctx context.Context, id string) error
	// VerifyClean looks for anything that a former cluster left behind. It changes nothing on the host.
	VerifyClean(ctx context.Context) (Report, error)
	// Close ends the connection.
	Close() error
}

// Operation is a payload under a name. The same ID must never carry another claim's payload.
type Operation struct {
	// ID must satisfy ValidID; it becomes part of file and unit names on the host.
	ID string
	// Payload is what bootstrap.Build returned.
	Payload bootstrap.Payload
	// Timeout after which the host itself stops the operation and calls it failed; 0 means DefaultTimeout.
	Timeout time.Duration
}

// DefaultTimeout bounds an operation on the host when the caller gives no limit. kubeadm's own limits (kubelet
// health 4 min, TLS bootstrap 5 min, discovery 5 min) add up to less, with room for image pulls and packages.
const DefaultTimeout = 30 * time.Minute

var validID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// ValidID tells whether id can name an operation: 1 to 63 of a-z, 0-9 and '-', not beginning with '-'.
func ValidID(id string) bool { return validID.MatchString(id) }

// Facts are what a host says about itself.
type Facts struct {
	Hostname  string
	MachineID string
	// BootID changes with every boot.
	BootID string
	// Architecture in Go's and Kubernetes' terms: amd64, arm64.
	Architecture string
	// OS is PRETTY_NAME of os-release, e.g. "Debian GNU/Linux 12 (bookworm)".
	OS string
	// OSID and OSVersion are ID and VERSION_ID of os-release, e.g. "debian" and "12".
	OSID, OSVersion string
	Kernel          string
	// CPUs is the number of online logical processors.
	CPUs int
	// MemoryBytes is MemTotal.
	MemoryBytes int64
	Disks       []Disk
	// Addresses are the global-scope IP addresses of the host, in the order the host lists them.
	Addresses []string
	// KubeadmVersion as kubeadm prints it ("v1.36.3"), empty when it is not installed.
	KubeadmVersion string
	// KubeletActive: the kubelet service is running, so some cluster uses the host.
	KubeletActive bool
	// OperationID is the bootstrap that holds the host, empty when none does.
	OperationID string
	// Missing lists programs that operations need and the host lacks; empty on a usable host.
	Missing []string
}

// Disk is one whole block device.
type Disk struct {
	// Name as in /dev/<name>.
	Name      string
	SizeBytes int64
	// Rotational: a spinning disk.
	Rotational bool
}

// Phase of an operation as the host knows it.
type Phase string

const (
	// Absent: the host does not know the operation; Deliver or Reset starts it.
	Absent Phase = "Absent"
	// Running: started, not finished.
	Running Phase = "Running"
	// Succeeded: a bootstrap left its sentinel; a reset verified the host clean.
	Succeeded Phase = "Succeeded"
	// Failed: finished without success. A bootstrap needs a Reset before anything else may be delivered.
	Failed Phase = "Failed"
	// Interrupted: the host rebooted, or the executor was killed, before the join began. Deliver starts it again.
	Interrupted Phase = "Interrupted"
)

// Progress of one operation.
type Progress struct {
	Phase Phase
	// Step is the action being performed, or the last one: "write_files", "runcmd", "kubeadm reset" …
	Step string
	// JoinStarted: kubeadm join was begun, so only Reset makes the host usable again unless it succeeds.
	JoinStarted bool
	// ExitCode of the operation when it has finished.
	ExitCode int
	// Reason says in one line why a finished operation is not a success.
	Reason string
	// BootID of the boot the operation ran in.
	BootID string
	// PayloadHash of what was delivered (bootstrap.Payload.Hash).
	PayloadHash string
	// Tail is the end of the host's log of the operation, secrets redacted, at most MaxTail bytes.
	Tail string
}

// MaxTail is the most bytes of log that Progress carries: enough for kubeadm's error and its context, small enough
// for a condition message.
const MaxTail = 4 << 10

// Err is an OperationFailedError when the operation failed, otherwise nil.
func (p Progress) Err() error {
	if p.Phase != Failed {
		return nil
	}
	return &OperationFailedError{Reason: p.Reason, ExitCode: p.ExitCode, Tail: p.Tail}
}

// Report is what VerifyClean found.
type Report struct {
	// Findings in human words, empty on a clean host.
	Findings []string
}

// Clean tells whether the host may be given to another cluster.
func (r Report) Clean() bool { return len(r.Findings) == 0 }

// Err is a NotCleanError when there are findings, otherwise nil.
func (r Report) Err() error {
	if r.Clean() {
		return nil
	}
	return &NotCleanError{Findings: r.Findings}
}
