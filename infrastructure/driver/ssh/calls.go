// SPDX-License-Identifier: Apache-2.0

package ssh

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
)

var _ driver.Driver = (*host)(nil)

// Probe reads the host's facts.
func (h *host) Probe(ctx context.Context) (driver.Facts, error) {
	out, err := h.call(ctx, "probe", nil)
	if err != nil {
		return driver.Facts{}, err
	}
	return facts(out), nil
}

// Deliver starts a bootstrap.
func (h *host) Deliver(ctx context.Context, op driver.Operation) error {
	files, err := operation(op.ID, op.Timeout)
	if err != nil {
		return err
	}
	if op.Payload.Hash == "" || op.Payload.Sentinel == "" {
		return &driver.InvalidTargetError{Field: "payload", Reason: "not sealed"}
	}
	files.line("hash", op.Payload.Hash)
	files.executor("bootstrap.sh", "actions.sh")
	files.payload(op.Payload)
	return h.start(ctx, "deliver", files)
}

// Reset starts a reset.
func (h *host) Reset(ctx context.Context, id string) error {
	files, err := operation(id, 0)
	if err != nil {
		return err
	}
	files.executor("clean.sh", "leftovers.sh")
	return h.start(ctx, "reset", files)
}

// Observe reads the state of an operation.
func (h *host) Observe(ctx context.Context, id string) (driver.Progress, error) {
	files, err := operation(id, 0)
	if err != nil {
		return driver.Progress{}, err
	}
	out, err := h.call(ctx, "observe", files)
	if err != nil {
		return driver.Progress{}, err
	}
	return progress(out), nil
}

// VerifyClean looks for leftovers.
func (h *host) VerifyClean(ctx context.Context) (driver.Report, error) {
	var files archive
	files.script("leftovers.sh", "leftovers.sh")
	out, err := h.call(ctx, "verify", files)
	if err != nil {
		return driver.Report{}, err
	}
	return driver.Report{Findings: answers(out).all("finding")}, nil
}

func operation(id string, timeout time.Duration) (archive, error) {
	if !driver.ValidID(id) {
		return nil, &driver.InvalidTargetError{Field: "operation", Reason: fmt.Sprintf("%q is not a valid id", id)}
	}
	if timeout <= 0 {
		timeout = driver.DefaultTimeout
	}
	var files archive
	files.line("id", id)
	// systemd counts in whole seconds here; rounding to none would mean no limit.
	files.line("limit", strconv.Itoa(max(1, int(timeout.Seconds()))))
	return files, nil
}

// start runs one of the scripts that begin an operation.
func (h *host) start(ctx context.Context, script string, files archive) error {
	out, err := h.call(ctx, script, files)
	if err != nil {
		return err
	}
	a := answers(out)
	if findings := a.all("finding"); len(findings) > 0 {
		return &driver.NotCleanError{Findings: findings}
	}
	if result := a.first("result"); result != "started" && result != "attached" {
		return &driver.OperationFailedError{Reason: script + ": the host's answer is incomplete"}
	}
	return nil
}

// answers are the key=value lines that scripts print.
type answers string

func (a answers) all(key string) []string {
	var out []string
	for l := range strings.Lines(string(a)) {
		if k, v, found := strings.Cut(strings.TrimRight(l, "\n"), "="); found && k == key {
			out = append(out, v)
		}
	}
	return out
}

func (a answers) first(key string) string {
	if all := a.all(key); len(all) > 0 {
		return all[0]
	}
	return ""
}

func (a answers) number(key string) int64 {
	n, err := strconv.ParseInt(a.first(key), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// architectures translates uname -m to Go's names.
var architectures = map[string]string{"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64"}

func facts(out string) driver.Facts {
	a := answers(out)
	f := driver.Facts{
		Hostname:       a.first("hostname"),
		MachineID:      a.first("machine-id"),
		BootID:         a.first("boot-id"),
		Architecture:   a.first("machine"),
		OS:             a.first("os"),
		OSID:           a.first("os-id"),
		OSVersion:      a.first("os-version"),
		Kernel:         a.first("kernel"),
		CPUs:           int(a.number("cpus")),
		MemoryBytes:    a.number("memory-kib") * 1024,
		Addresses:      a.all("address"),
		KubeadmVersion: a.first("kubeadm"),
		KubeletActive:  a.first("kubelet") == "active",
		OperationID:    a.first("operation"),
		Missing:        a.all("missing"),
	}
	if name, known := architectures[f.Architecture]; known {
		f.Architecture = name
	}
	for _, d := range a.all("disk") {
		fields := strings.Fields(d)
		if len(fields) < 2 {
			continue
		}
		// The kernel counts in sectors of 512 bytes, whatever the disk's own are.
		sectors, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			continue
		}
		f.Disks = append(f.Disks, driver.Disk{Name: fields[0], SizeBytes: sectors * 512, Rotational: len(fields) > 2 && fields[2] == "1"})
	}
	return f
}

// phases translates the host's words.
var phases = map[string]driver.Phase{
	"": driver.Absent, "running": driver.Running, "succeeded": driver.Succeeded, "failed": driver.Failed, "interrupted": driver.Interrupted,
}

func progress(out string) driver.Progress {
	head, log, _ := strings.Cut(out, "\nlog\n")
	a := answers(head)
	return driver.Progress{
		Phase:       phases[a.first("phase")],
		Step:        a.first("step"),
		JoinStarted: a.first("joined") == "true",
		ExitCode:    int(a.number("exit")),
		Reason:      driver.Redact(a.first("reason")),
		BootID:      a.first("boot"),
		PayloadHash: a.first("hash"),
		Tail:        driver.Tail(log),
	}
}
