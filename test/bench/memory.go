// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

// PSS and processor time of one idle tenant of Kamaji, the mean of ten on a machine like this, see docs/benchmarks.md.
const (
	kamajiTenantMiB      = 287
	kamajiTenantMilliCPU = 30.6
)

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
	tenant, err := pss(within(*pod))
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
	total := 0.0
	err := each(match, func(folder string) error {
		rollup, err := os.ReadFile(filepath.Join(folder, "smaps_rollup"))
		if err != nil {
			return nil //nolint:nilerr // ended meanwhile
		}
		for line := range strings.Lines(string(rollup)) {
			if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "Pss:" {
				kib, err := strconv.ParseFloat(fields[1], 64)
				if err != nil {
					return err
				}
				total += kib / 1024
			}
		}
		return nil
	})
	return total, err
}

// cpu adds up the processor time, in seconds, that the matching processes have used.
func cpu(match func(command, cgroup string) bool) (float64, error) {
	total := 0.0
	err := each(match, func(folder string) error {
		stat, err := os.ReadFile(filepath.Join(folder, "stat"))
		if err != nil {
			return nil //nolint:nilerr // ended meanwhile
		}
		// The name, in parentheses, may hold spaces; user and system time are the 14th and 15th field, in hundredths.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, field := range fields[11:13] {
			ticks, err := strconv.ParseFloat(field, 64)
			if err != nil {
				return err
			}
			total += ticks / 100
		}
		return nil
	})
	return total, err
}

// each calls look with the folder in /proc of all processes that match by program and control groups.
func each(match func(command, cgroup string) bool, look func(folder string) error) error {
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	found := false
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
		found = true
		if err := look(folder); err != nil {
			return fmt.Errorf("reading %s: %w", folder, err)
		}
	}
	if !found {
		return fmt.Errorf("no such process runs on this machine")
	}
	return nil
}

// within tells whether a control group is that of one of the pods.
func within(pods ...corev1.Pod) func(command, cgroup string) bool {
	return func(_, cgroup string) bool {
		return slices.ContainsFunc(pods, func(pod corev1.Pod) bool {
			uid := string(pod.UID)
			return strings.Contains(cgroup, uid) || strings.Contains(cgroup, strings.ReplaceAll(uid, "-", "_"))
		})
	}
}

const (
	// restBefore is how long tenants have nothing to do before they are measured: garbage of their start is gone.
	restBefore = 150 * time.Second
	// restFor is how long their processor time is counted, as the peer's was.
	restFor = 120 * time.Second
)

// resting reports what one of the fleet's tenants needs while none has anything to do: the mean of all, which share the
// pages of programs, as the peer's ten did.
func (b *bench) resting(ctx context.Context, name string) error {
	if err := pause(ctx, restBefore); err != nil {
		return err
	}
	pods := &corev1.PodList{}
	if err := b.client.List(ctx, pods, client.InNamespace(fleetNamespace)); err != nil {
		return err
	}
	before, err := cpu(within(pods.Items...))
	if err != nil {
		return err
	}
	if err := pause(ctx, restFor); err != nil {
		return err
	}
	after, err := cpu(within(pods.Items...))
	if err != nil {
		return err
	}
	memory, err := pss(within(pods.Items...))
	if err != nil {
		return err
	}
	tenants := float64(len(pods.Items))
	report(name+"-tenant-pss", memory/tenants, "MiB", "kamaji", kamajiTenantMiB, "<=200MiB", 200)
	report(name+"-tenant-cpu", (after-before)/tenants/restFor.Seconds()*1000, "mCPU", "kamaji", kamajiTenantMilliCPU, "<=18mCPU", 18)
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
