// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

// kamajiTenantMiB is the PSS of one idle tenant of Kamaji on a machine like this, see docs/benchmarks.md.
const kamajiTenantMiB = 287

// idleTenant is made before everything else is measured and its memory looked at last, so that it has had time to settle.
const idleTenant = "bench-idle"

// idle makes the tenant whose memory is measured: without workers, as the peer's was.
func idle(ctx context.Context, l *quickstart.Lab) error {
	if err := l.Create(ctx, idleTenant, 0); err != nil {
		return err
	}
	return l.Customer(ctx, idleTenant)
}

// memory reports what each of our processes and one idle tenant hold, as proportional set size.
func memory(ctx context.Context, l *quickstart.Lab) error {
	const name = idleTenant
	defer func() {
		_, _ = l.Kubectl(context.WithoutCancel(ctx), "-n", quickstart.Namespace, "delete", "cluster", name, "--timeout", "5m")
	}()
	pod, err := podOf(ctx, l, name)
	if err != nil {
		return err
	}
	uid := string(pod.UID)
	tenant, err := pss(func(_, cgroup string) bool {
		return strings.Contains(cgroup, uid) || strings.Contains(cgroup, strings.ReplaceAll(uid, "-", "_"))
	})
	if err != nil {
		return err
	}
	report("tenant-pss", tenant, "MiB", "kamaji", kamajiTenantMiB, "<=200MiB", 200)
	for _, program := range []string{"controlplane-manager", "infrastructure-manager", "kamaji-gateway"} {
		value, err := pss(func(command, _ string) bool { return filepath.Base(command) == program })
		if err != nil {
			return err
		}
		report(program+"-pss", value, "MiB", "-", 0, "<=128MiB", 128)
	}
	return nil
}

// pss adds up the proportional set sizes, in MiB, of the processes that match by program and control groups.
func pss(match func(command, cgroup string) bool) (float64, error) {
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	total, found := 0.0, false
	for _, folder := range folders {
		command, err := os.ReadFile(filepath.Join(folder, "cmdline"))
		if err != nil {
			continue // ended meanwhile
		}
		program, _, _ := strings.Cut(string(command), "\x00")
		cgroup, err := os.ReadFile(filepath.Join(folder, "cgroup"))
		if err != nil || !match(program, string(cgroup)) {
			continue
		}
		rollup, err := os.ReadFile(filepath.Join(folder, "smaps_rollup"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(rollup)) {
			if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "Pss:" {
				kib, err := strconv.ParseFloat(fields[1], 64)
				if err != nil {
					return 0, fmt.Errorf("reading %s: %w", folder, err)
				}
				total += kib / 1024
				found = true
			}
		}
	}
	if !found {
		return 0, fmt.Errorf("no such process runs on this machine")
	}
	return total, nil
}
