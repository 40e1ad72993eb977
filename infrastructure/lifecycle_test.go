// SPDX-License-Identifier: Apache-2.0

package infrastructure_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver/fake"
)

// TestProvider runs the controllers against a real API server and hosts in memory; each case has its own namespace.
func TestProvider(t *testing.T) {
	w := newWorld(t)
	for name, run := range map[string]func(*place){
		"a host goes all the way and back":                     lifeCycle,
		"machines race for hosts and losers get what is freed": race,
		"nothing is claimed before Cluster API is ready":       waiting,
		"no host fits":                                          noHost,
		"broken hosts say what to do":                           brokenHosts,
		"broken bootstrap data":                                 brokenData,
		"a failed join is shown and never repeated":             failedJoin,
		"a reboot before the join delivers again":               interrupted,
		"a wiped status comes back without a second join":       wiped,
		"deletion at each phase":                                deletion,
		"an unreachable host is quarantined, then cleaned":      unreachable,
		"a reset that fails is repeated and the host stays out": failedReset,
		"a reset that fails on the host is shown":               stuckReset,
		"a host that stays dead is given up in the end":         dead,
		"a foreign host is quarantined until told otherwise":    foreign,
		"pause stops everything":                                pause,
		"clusterctl move takes objects away without effects":    moved,
		"a claim outlives a move":                               movedIn,
		"RackCluster":                                           rackCluster,
		"RackCluster waits for a hosted control plane":          hostedControlPlane,
		"the API refuses nonsense":                              validation,
	} {
		t.Run(name, func(t *testing.T) {
			p := w.place(t)
			run(p)
		})
	}
}

// lifeCycle also checks that nothing secret gets into objects, and that a running host costs no write.
func lifeCycle(p *place) {
	h := p.hosts(1)[0]
	available := p.hostIs("h0", infrav1.HostAvailable, "Ready=Available", "Clean=Verified", "SSHReachable=Verified", "HostKeyVerified=Verified")
	if facts := available.Status.Facts; facts == nil || facts.CPUs != 4 || facts.KubeadmVersion != "v1.36.3" {
		p.t.Errorf("facts: %+v", available.Status.Facts)
	}

	var delivered driver.Operation
	h.Bootstrap = func(op driver.Operation) fake.Outcome { delivered = op; return fake.Outcome{Observations: 2} }
	p.machine("m0")
	m := p.machineIs("m0", "Ready=Done", "Bootstrapped=Done", "Paused=NotPaused")
	running := p.hostIs("h0", infrav1.HostRunning, "Ready=Running", "Clean=InUse", "Bootstrapped=Succeeded")
	claim := &infrav1.RackHostClaim{}
	p.must(p.Get(p.ctx, p.key("h0"), claim))

	want := "rack://" + string(running.UID) + "/" + claim.Spec.ID
	if m.Spec.ProviderID != want || claim.Spec.ProviderID != want {
		p.t.Errorf("providerID: machine %q, claim %q, want %q", m.Spec.ProviderID, claim.Spec.ProviderID, want)
	}
	if !ptr.Deref(m.Status.Initialization.Provisioned, false) {
		p.t.Error("not provisioned")
	}
	addresses := clusterv1.MachineAddresses{
		{Type: clusterv1.MachineHostName, Address: "h0"},
		{Type: clusterv1.MachineInternalDNS, Address: running.Spec.SSH.Address},
		{Type: clusterv1.MachineInternalIP, Address: "192.0.2.1"},
	}
	if diff := cmp.Diff(addresses, m.Status.Addresses); diff != "" {
		p.t.Errorf("addresses (-want +got):\n%s", diff)
	}
	text := actionsText(delivered)
	if !strings.Contains(text, want) || !strings.Contains(text, token) {
		p.t.Error("the delivered payload lacks the providerID or the token")
	}
	for _, obj := range []any{m, running, claim} {
		if strings.Contains(fmt.Sprintf("%+v", obj), token) {
			p.t.Errorf("%T holds the bootstrap token", obj)
		}
	}

	p.quiet()
	p.remove("m0")
	p.gone(&infrav1.RackMachine{}, "m0")
	p.gone(&infrav1.RackHostClaim{}, "h0")
	free := p.hostIs("h0", infrav1.HostAvailable, "Ready=Available", "Clean=Verified")
	if free.Status.Claim != nil || h.Joins() != 1 {
		p.t.Errorf("claim %+v, %d joins", free.Status.Claim, h.Joins())
	}
}

func actionsText(op driver.Operation) string {
	var b strings.Builder
	for _, action := range op.Payload.Actions {
		if action.File != nil {
			b.Write(action.File.Content)
		}
	}
	return b.String()
}

// quiet makes both controllers look again, by changing what they watch, and wants host and machine unchanged.
func (p *place) quiet() {
	p.t.Helper()
	h, m := p.host("h0"), p.rackMachine("m0")
	p.annotate(&clusterv1.Machine{}, "m0", "example.com/poke", "1")
	p.annotate(&infrav1.RackHostClaim{}, "h0", "example.com/poke", "1")
	// What is answered to a later request tells that the earlier ones were looked at.
	p.machine("later", withoutData)
	p.machineIs("later", "BootstrapDataReady=WaitingForBootstrapData")
	p.remove("later")
	p.gone(&infrav1.RackMachine{}, "later")
	if after := p.host("h0"); after.ResourceVersion != h.ResourceVersion {
		p.t.Errorf("an unchanged host was written (-before +after):\n%s", cmp.Diff(h.Status, after.Status))
	}
	if after := p.rackMachine("m0"); after.ResourceVersion != m.ResourceVersion {
		p.t.Errorf("an unchanged machine was written (-before +after):\n%s", cmp.Diff(m.Status, after.Status))
	}
}

func withoutData(m *clusterv1.Machine, _ *infrav1.RackMachine) {
	m.Spec.Bootstrap = clusterv1.Bootstrap{ConfigRef: clusterv1.ContractVersionedObjectReference{
		APIGroup: "bootstrap.cluster.x-k8s.io", Kind: "KubeadmConfig", Name: m.Name,
	}}
}

func race(p *place) {
	machines := p.hosts(2)
	p.hostIs("h0", infrav1.HostAvailable)
	p.hostIs("h1", infrav1.HostAvailable)
	names := []string{"m0", "m1", "m2", "m3"}
	for _, name := range names {
		p.machine(name)
	}
	var winners, losers []string
	p.eventually("two winners", func() string {
		winners, losers = nil, nil
		for _, name := range names {
			m := p.rackMachine(name)
			if ptr.Deref(m.Status.Initialization.Provisioned, false) {
				winners = append(winners, name)
			} else if missing(m.Status.Conditions, []string{"HostClaimed=NoHostAvailable"}) == "" {
				losers = append(losers, name)
			}
		}
		if len(winners) == 2 && len(losers) == 2 {
			return ""
		}
		return fmt.Sprintf("winners %v, losers %v", winners, losers)
	})
	if a, b := p.rackMachine(winners[0]), p.rackMachine(winners[1]); a.Status.Host == b.Status.Host || a.Spec.ProviderID == b.Spec.ProviderID {
		p.t.Errorf("both machines have host %s, %s", a.Status.Host, a.Spec.ProviderID)
	}
	p.remove(winners[0])
	p.remove(winners[1])
	for _, name := range losers {
		p.machineIs(name, "Ready=Done")
	}
	for i, h := range machines {
		if h.Joins() != 2 {
			p.t.Errorf("host %d had %d joins, want 2", i, h.Joins())
		}
	}
}

func waiting(p *place) {
	p.hosts(1)
	p.hostIs("h0", infrav1.HostAvailable)
	before := p.cluster.DeepCopy()
	p.cluster.Status.Initialization.InfrastructureProvisioned = nil
	p.must(p.Status().Patch(p.ctx, p.cluster, client.MergeFrom(before)))
	p.machine("m0", withoutData)
	p.machineIs("m0", "ClusterInfrastructureReady=WaitingForClusterInfrastructure")
	before = p.cluster.DeepCopy()
	p.cluster.Status.Initialization.InfrastructureProvisioned = ptr.To(true)
	p.must(p.Status().Patch(p.ctx, p.cluster, client.MergeFrom(before)))
	p.machineIs("m0", "ClusterInfrastructureReady=Done", "BootstrapDataReady=WaitingForBootstrapData")
	p.gone(&infrav1.RackHostClaim{}, "h0")
	m := &clusterv1.Machine{}
	p.must(p.Get(p.ctx, p.key("m0"), m))
	old := m.DeepCopy()
	m.Spec.Bootstrap.DataSecretName = ptr.To("bootstrap")
	p.must(p.Patch(p.ctx, m, client.MergeFrom(old)))
	p.machineIs("m0", "Ready=Done")
}

func noHost(p *place) {
	i := 0
	p.hosts(3, func(h *infrav1.RackHost, _ *fake.Host) {
		switch i++; i {
		case 1:
			h.Labels = map[string]string{"gpu": "true"}
			h.Spec.Unavailable = true
		case 2:
			h.Labels = map[string]string{"gpu": "true"}
			h.Spec.Taints = []corev1.Taint{{Key: "reserved", Effect: corev1.TaintEffectNoSchedule}}
		}
	})
	p.hostIs("h0", infrav1.HostAvailable, "Ready=Unavailable")
	p.hostIs("h1", infrav1.HostAvailable)
	p.hostIs("h2", infrav1.HostAvailable)
	p.machine("m0", func(_ *clusterv1.Machine, rm *infrav1.RackMachine) {
		rm.Spec.HostSelector.MatchLabels = map[string]string{"gpu": "true"}
	})
	p.machineIs("m0", "HostClaimed=NoHostAvailable")
	p.eventually("the explanation", func() string {
		for _, c := range p.rackMachine("m0").Status.Conditions {
			if c.Type == "HostClaimed" && strings.HasPrefix(c.Message, "none of 3 hosts can be taken: 1 ") &&
				strings.Contains(c.Message, "1 marked unavailable") && strings.Contains(c.Message, "1 don't match hostSelector") &&
				strings.Contains(c.Message, "1 with taint reserved:NoSchedule that is not tolerated") {
				return ""
			}
		}
		return fmt.Sprintf("%+v", p.rackMachine("m0").Status.Conditions)
	})
	h := p.host("h0")
	before := h.DeepCopy()
	h.Spec.Unavailable = false
	p.must(p.Patch(p.ctx, h, client.MergeFrom(before)))
	if m := p.machineIs("m0", "Ready=Done"); m.Status.Host != "h0" {
		p.t.Errorf("took %s", m.Status.Host)
	}
}

func pause(p *place) {
	h := p.hosts(1)[0]
	p.hostIs("h0", infrav1.HostAvailable)
	setPaused := func(paused bool) {
		before := p.cluster.DeepCopy()
		p.cluster.Spec.Paused = ptr.To(paused)
		p.must(p.Patch(p.ctx, p.cluster, client.MergeFrom(before)))
	}
	setPaused(true)
	p.machine("m0")
	p.machineIs("m0", "Paused=Paused")
	p.gone(&infrav1.RackHostClaim{}, "h0")
	setPaused(false)
	p.machineIs("m0", "Ready=Done", "Paused=NotPaused")
	setPaused(true)
	p.machineIs("m0", "Paused=Paused")
	p.hostIs("h0", infrav1.HostRunning, "Paused=Paused")
	p.remove("m0")
	p.must(p.Get(p.ctx, p.key("h0"), &infrav1.RackHostClaim{}))
	setPaused(false)
	p.gone(&infrav1.RackMachine{}, "m0")
	p.hostIs("h0", infrav1.HostAvailable)
	p.annotate(&infrav1.RackHost{}, "h0", clusterv1.PausedAnnotation, "")
	p.hostIs("h0", infrav1.HostAvailable, "Paused=Paused")
	if h.Joins() != 1 {
		p.t.Errorf("%d joins", h.Joins())
	}
}

// moved plays clusterctl: it marks, deletes, and takes the finalizers off.
func moved(p *place) {
	h := p.hosts(1)[0]
	p.machine("m0")
	p.machineIs("m0", "Ready=Done")
	for _, obj := range []client.Object{&infrav1.RackMachine{}, &infrav1.RackHostClaim{}, &infrav1.RackHost{}} {
		name := "h0"
		if _, ok := obj.(*infrav1.RackMachine); ok {
			name = "m0"
		}
		p.annotate(obj, name, clusterctlv1.DeleteForMoveAnnotation, "")
		p.must(p.Delete(p.ctx, obj))
		p.must(p.Get(p.ctx, p.key(name), obj))
		before := obj.DeepCopyObject().(client.Object)
		obj.SetFinalizers(nil)
		p.must(p.Patch(p.ctx, obj, client.MergeFrom(before)))
		p.gone(obj, name)
	}
	if p.holder(h) == "" {
		p.t.Error("the host was reset by a move")
	}
}

// movedIn plays the other side: objects come without status and with new uids, in whatever order.
func movedIn(p *place) {
	const providerID = "rack://old-host-uid/claim-1"
	h := p.hosts(1, func(_ *infrav1.RackHost, h *fake.Host) { p.adopt(h, "claim-1") })[0]
	p.hostIs("h0", infrav1.HostQuarantined)
	p.machine("m0", func(_ *clusterv1.Machine, rm *infrav1.RackMachine) { rm.Spec.ProviderID = providerID })
	p.machineIs("m0", "HostClaimed=HostClaimLost")
	p.create(&infrav1.RackHostClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: "h0", Namespace: p.namespace, Finalizers: []string{infrav1.ClaimFinalizer},
			Labels: map[string]string{clusterv1.ClusterNameLabel: "demo", infrav1.ClaimMachineLabel: "m0"},
		},
		Spec: infrav1.RackHostClaimSpec{
			ID: "claim-1", ProviderID: providerID, ClusterName: "demo", DataSecretName: "gone",
			Machine: infrav1.ClaimMachine{Name: "m0", UID: "uid-in-the-old-cluster"},
		},
	})
	m := p.machineIs("m0", "Ready=Done")
	p.hostIs("h0", infrav1.HostRunning)
	if m.Spec.ProviderID != providerID || h.Joins() != 1 {
		p.t.Errorf("providerID %s, %d joins", m.Spec.ProviderID, h.Joins())
	}
}

func unreachable(p *place) {
	h := p.hosts(1)[0]
	p.machine("m0")
	p.machineIs("m0", "Ready=Done")
	h.SetDown(errors.New("no route to host"))
	p.remove("m0")
	p.machineIs("m0", "HostReleased=ReleasingHost")
	p.hostIs("h0", infrav1.HostReleasing, "SSHReachable=Unreachable")
	p.must(p.Get(p.ctx, p.key("h0"), &infrav1.RackHostClaim{}))

	p.annotate(&infrav1.RackMachine{}, "m0", infrav1.ForceReleaseAnnotation, "checked on site")
	p.gone(&infrav1.RackMachine{}, "m0")
	q := p.hostIs("h0", infrav1.HostQuarantined)
	if q.Annotations[infrav1.ReleasedClaimAnnotation] == "" {
		p.t.Error("the host doesn't record what it may still hold")
	}
	p.machine("m1")
	p.machineIs("m1", "HostClaimed=NoHostAvailable")

	h.SetDown(nil)
	p.machineIs("m1", "Ready=Done")
	if h.Joins() != 2 {
		p.t.Errorf("%d joins", h.Joins())
	}
}
