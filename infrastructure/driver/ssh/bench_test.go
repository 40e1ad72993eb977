// SPDX-License-Identifier: Apache-2.0

package ssh_test

import (
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver/drivertest"
	rackssh "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver/ssh"
)

// BenchmarkDialToJoin is what the driver adds between a decision and the beginning of kubeadm join.
func BenchmarkDialToJoin(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s := newSandbox(b)
		op := driver.Operation{ID: "claim-a", Payload: s.Payload(drivertest.HangsIn)}
		b.StartTimer()
		d, err := rackssh.Dial(b.Context(), s.Target())
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Deliver(b.Context(), op); err != nil {
			b.Fatal(err)
		}
		for joined := false; !joined; {
			p, err := d.Observe(b.Context(), "claim-a")
			if err != nil {
				b.Fatal(err)
			}
			joined = p.JoinStarted
		}
		_ = d.Close()
	}
}

// BenchmarkObserve is the cost of looking once at a running operation.
func BenchmarkObserve(b *testing.B) {
	s := newSandbox(b)
	d, err := rackssh.Dial(b.Context(), s.Target())
	if err != nil {
		b.Fatal(err)
	}
	if err := d.Deliver(b.Context(), driver.Operation{ID: "claim-a", Payload: s.Payload(drivertest.HangsIn)}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := d.Observe(b.Context(), "claim-a"); err != nil {
			b.Fatal(err)
		}
	}
}
