// SPDX-License-Identifier: Apache-2.0

package fake_test

import (
	"context"
	"errors"
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/bootstrap"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver/drivertest"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver/fake"
)

func TestContract(t *testing.T) {
	drivertest.Run(t, func(*testing.T) drivertest.Host { return newRig() })
}

type rig struct {
	fake.Fleet
	host *fake.Host
}

func newRig() *rig {
	r := &rig{}
	r.host = &fake.Host{
		HostKey: "right", PrivateKey: "right",
		Facts: driver.Facts{Hostname: "h", BootID: "boot", Architecture: "amd64", Kernel: "6", CPUs: 4, MemoryBytes: 8 << 30},
		Bootstrap: func(op driver.Operation) fake.Outcome {
			switch op.Payload.Hash {
			case r.Payload(drivertest.FailsToJoin).Hash:
				return fake.Outcome{Failure: "no", Log: "token " + drivertest.Token + "\n" + drivertest.PEM}
			case r.Payload(drivertest.HangsBefore).Hash:
				return fake.Outcome{Hangs: true, NoJoin: true}
			case r.Payload(drivertest.HangsIn).Hash:
				return fake.Outcome{Hangs: true}
			}
			return fake.Outcome{Observations: 2}
		},
	}
	r.Add("rack-0", r.host)
	return r
}

func (r *rig) Target() driver.Target {
	return driver.Target{Address: "rack-0", User: "root", PrivateKey: []byte("right"), HostKeys: []string{"right"}}
}
func (r *rig) WrongHostKey() string    { return "wrong" }
func (r *rig) WrongPrivateKey() []byte { return []byte("wrong") }
func (r *rig) Reboot(*testing.T)       { r.host.Reboot() }
func (r *rig) Joins(*testing.T) int    { return r.host.Joins() }
func (r *rig) Payload(b drivertest.Behaviour) bootstrap.Payload {
	script := drivertest.Commands(string(b))
	return bootstrap.Seal([]bootstrap.Action{{Script: &script}}, bootstrap.Sentinel)
}

func TestScriptedFailures(t *testing.T) {
	r := newRig()
	broken := errors.New("broken")
	r.host.FailNext(fake.CallProbe, broken)
	d, err := r.Dial(context.Background(), r.Target())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Probe(t.Context()); !errors.Is(err, broken) {
		t.Errorf("first probe: %v, want the scripted error", err)
	}
	if _, err := d.Probe(t.Context()); err != nil {
		t.Errorf("second probe: %v", err)
	}
	r.host.SetDown(broken)
	var unreachable *driver.UnreachableError
	if _, err := d.Probe(t.Context()); !errors.As(err, &unreachable) {
		t.Errorf("probe of a host that is down: %v", err)
	}
}
