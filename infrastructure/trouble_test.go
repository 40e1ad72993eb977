// SPDX-License-Identifier: Apache-2.0

package infrastructure_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver/fake"
)

func brokenHosts(p *place) {
	changes := []func(*infrav1.RackHost, *fake.Host){
		func(_ *infrav1.RackHost, h *fake.Host) { h.PrivateKey = "another key" },
		func(_ *infrav1.RackHost, h *fake.Host) { h.HostKey = "SHA256:another" },
		func(h *infrav1.RackHost, _ *fake.Host) { h.Spec.SSH.HostKeys = nil },
		func(h *infrav1.RackHost, _ *fake.Host) { h.Spec.SSH.PrivateKeySecretRef.Name = "nowhere" },
		func(_ *infrav1.RackHost, h *fake.Host) { h.Facts.Missing = []string{"kubeadm", "containerd"} },
	}
	i := 0
	p.hosts(len(changes), func(h *infrav1.RackHost, f *fake.Host) { changes[i](h, f); i++ })
	for name, conditions := range map[string][]string{
		"h0": {"Ready=AuthenticationFailed", "HostKeyVerified=AuthenticationFailed", "SSHReachable=AuthenticationFailed"},
		"h1": {"Ready=HostKeyMismatch", "HostKeyVerified=HostKeyMismatch"},
		"h2": {"Ready=HostKeyUnpinned", "HostKeyVerified=HostKeyUnpinned"},
		"h3": {"Ready=CredentialsMissing", "SSHReachable=CredentialsMissing"},
		"h4": {"Ready=ProgramsMissing", "Clean=Verified"},
	} {
		h := p.hostIs(name, infrav1.HostRegistering, conditions...)
		if c := meta.FindStatusCondition(h.Status.Conditions, "Ready"); c.Status != metav1.ConditionFalse || c.Message == "" {
			p.t.Errorf("%s: Ready is %+v", name, c)
		}
	}
	p.machine("m0")
	p.machineIs("m0", "HostClaimed=NoHostAvailable")
	message := meta.FindStatusCondition(p.rackMachine("m0").Status.Conditions, "Ready").Message
	if !strings.Contains(message, "1 registering (HostKeyMismatch)") {
		p.t.Errorf("machine says %q", message)
	}
	// The cure works at once: the spec is watched.
	h := p.host("h2")
	before := h.DeepCopy()
	h.Spec.SSH.HostKeys = []string{hostKey}
	p.must(p.Patch(p.ctx, h, client.MergeFrom(before)))
	p.machineIs("m0", "Ready=Done")
}

func brokenData(p *place) {
	h := p.hosts(1)[0]
	p.secret("broken", map[string]string{"value": "#cloud-config\npackages: [kubelet]\nruncmd: [\"echo " + token + "\"]\n"})
	p.machine("m0", func(m *clusterv1.Machine, _ *infrav1.RackMachine) { m.Spec.Bootstrap.DataSecretName = ptr.To("broken") })
	m := p.machineIs("m0", "Bootstrapped=BootstrapDataInvalid")
	p.hostIs("h0", infrav1.HostPreparing, "Bootstrapped=BootstrapDataInvalid")
	c := meta.FindStatusCondition(m.Status.Conditions, "Bootstrapped")
	if !strings.Contains(c.Message, "packages") || !strings.Contains(c.Message, "broken") || strings.Contains(c.Message, token) {
		p.t.Errorf("machine says %q", c.Message)
	}
	p.remove("m0")
	p.gone(&infrav1.RackMachine{}, "m0")
	p.machine("m1", func(m *clusterv1.Machine, _ *infrav1.RackMachine) { m.Spec.Bootstrap.DataSecretName = ptr.To("late") })
	p.machineIs("m1", "Bootstrapped=BootstrapDataMissing")
	p.secret("late", map[string]string{"value": bootstrapData})
	p.machineIs("m1", "Ready=Done")
	if h.Joins() != 1 {
		p.t.Errorf("%d joins", h.Joins())
	}
}

func failedJoin(p *place) {
	h := p.hosts(1, func(_ *infrav1.RackHost, f *fake.Host) {
		f.Bootstrap = func(driver.Operation) fake.Outcome {
			return fake.Outcome{Failure: "no sentinel", Log: "[discovery] token " + token + "\nerror execution phase preflight"}
		}
	})[0]
	p.machine("m0")
	m := p.machineIs("m0", "Bootstrapped=BootstrapFailed")
	p.hostIs("h0", infrav1.HostBootstrapping, "Bootstrapped=BootstrapFailed", "Ready=BootstrapFailed")
	message := meta.FindStatusCondition(m.Status.Conditions, "Bootstrapped").Message
	if !strings.Contains(message, "error execution phase preflight") || strings.Contains(message, token) {
		p.t.Errorf("machine says %q", message)
	}
	p.annotate(&infrav1.RackHost{}, "h0", "example.com/poke", "1")
	p.wipe("h0")
	p.hostIs("h0", infrav1.HostBootstrapping, "Bootstrapped=BootstrapFailed")
	if h.Joins() != 1 {
		p.t.Errorf("%d joins", h.Joins())
	}
	p.remove("m0")
	p.gone(&infrav1.RackMachine{}, "m0")
	p.hostIs("h0", infrav1.HostAvailable)
}

func interrupted(p *place) {
	h := p.hosts(1)[0]
	outcome := fake.Outcome{Hangs: true, NoJoin: true}
	h.Bootstrap = func(driver.Operation) fake.Outcome { return outcome }
	p.hostIs("h0", infrav1.HostAvailable)
	p.machine("m0")
	p.hostIs("h0", infrav1.HostBootstrapping, "Bootstrapped=Running")
	outcome = fake.Outcome{}
	h.Reboot()
	p.machineIs("m0", "Ready=Done")
	if h.Joins() != 1 {
		p.t.Errorf("%d joins", h.Joins())
	}
}

// wipe empties the status of a host, as a restore from a backup does.
func (p *place) wipe(name string) {
	p.t.Helper()
	h := p.host(name)
	before := h.DeepCopy()
	h.Status = infrav1.RackHostStatus{}
	p.must(p.Status().Patch(p.ctx, h, client.MergeFrom(before)))
}

func wiped(p *place) {
	h := p.hosts(1)[0]
	p.machine("m0")
	before := p.machineIs("m0", "Ready=Done")
	p.wipe("h0")
	p.hostIs("h0", infrav1.HostRunning, "Bootstrapped=Succeeded")
	m := before.DeepCopy()
	m.Status = infrav1.RackMachineStatus{}
	p.must(p.Status().Patch(p.ctx, m, client.MergeFrom(before)))
	after := p.machineIs("m0", "Ready=Done")
	if diff := cmp.Diff(before.Status.Addresses, after.Status.Addresses); diff != "" || after.Spec.ProviderID != before.Spec.ProviderID || after.Status.Host != "h0" {
		p.t.Errorf("rebuilt differently: %s\n%+v", diff, after.Status)
	}
	if h.Joins() != 1 {
		p.t.Errorf("%d joins", h.Joins())
	}
	p.remove("m0")
	p.hostIs("h0", infrav1.HostAvailable)
	p.wipe("h0")
	p.hostIs("h0", infrav1.HostAvailable)
}

// deletion takes the machine away while it is in each phase; owner Machine, Cluster and bootstrap Secret are gone by then.
func deletion(p *place) {
	for name, arrange := range map[string]func(*fake.Host) infrav1.HostPhase{
		"running":       func(*fake.Host) infrav1.HostPhase { return infrav1.HostRunning },
		"bootstrapping": func(h *fake.Host) infrav1.HostPhase { h.Bootstrap = hang; return infrav1.HostBootstrapping },
		"preparing": func(h *fake.Host) infrav1.HostPhase {
			h.FailNext(fake.CallDeliver, repeat(&driver.UnreachableError{Address: "h0", Err: fmt.Errorf("connection reset")}, 50)...)
			return infrav1.HostPreparing
		},
	} {
		p.t.Run(name, func(t *testing.T) {
			q := p.world.place(t)
			h := q.hosts(1)[0]
			q.hostIs("h0", infrav1.HostAvailable)
			phase := arrange(h)
			q.machine("m0")
			q.hostIs("h0", phase)
			q.must(q.Delete(q.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "bootstrap", Namespace: q.namespace}}))
			q.must(q.Delete(q.ctx, &clusterv1.Machine{ObjectMeta: metav1.ObjectMeta{Name: "m0", Namespace: q.namespace}}))
			q.must(q.Delete(q.ctx, q.cluster))
			q.remove("m0")
			q.gone(&infrav1.RackMachine{}, "m0")
			q.gone(&infrav1.RackHostClaim{}, "h0")
			q.hostIs("h0", infrav1.HostAvailable, "Clean=Verified")
			if holder := q.holder(h); holder != "" {
				t.Errorf("the host still holds %s", holder)
			}
		})
	}
	p.machine("never", func(_ *clusterv1.Machine, rm *infrav1.RackMachine) {
		rm.Spec.HostSelector.MatchLabels = map[string]string{"no": "such"}
	})
	p.machineIs("never", "HostClaimed=NoHostAvailable")
	p.remove("never")
	p.gone(&infrav1.RackMachine{}, "never")
}

func hang(driver.Operation) fake.Outcome { return fake.Outcome{Hangs: true} }

func repeat(err error, n int) []error {
	out := make([]error, n)
	for i := range out {
		out[i] = err
	}
	return out
}

func failedReset(p *place) {
	h := p.hosts(1)[0]
	p.machine("m0")
	p.machineIs("m0", "Ready=Done")
	h.FailNext(fake.CallReset, repeat(&driver.UnreachableError{Address: "h0", Err: fmt.Errorf("connection reset")}, 3)...)
	p.remove("m0")
	p.gone(&infrav1.RackMachine{}, "m0")
	free := p.hostIs("h0", infrav1.HostAvailable, "Clean=Verified")
	if op := free.Status.LastOperation; op == nil || op.Type != infrav1.HostOperationReset || op.State != "Succeeded" {
		p.t.Errorf("last operation %+v", op)
	}
}

// dead is unreachable for longer than anybody waits.
func dead(p *place) {
	h := p.hosts(1)[0]
	p.machine("m0")
	p.machineIs("m0", "Ready=Done")
	h.SetDown(fmt.Errorf("no route to host"))
	p.remove("m0")
	p.machineIs("m0", "HostReleased=ReleasingHost")
	start := p.clock.Now()
	p.clock.SetTime(start.Add(2 * releaseTimeout))
	defer p.clock.SetTime(start)
	p.gone(&infrav1.RackMachine{}, "m0")
	p.gone(&infrav1.RackHostClaim{}, "h0")
	p.hostIs("h0", infrav1.HostQuarantined, "SSHReachable=Unreachable")
	h.SetDown(nil)
	p.hostIs("h0", infrav1.HostAvailable, "Clean=Verified")
	if holder := p.holder(h); holder != "" {
		p.t.Errorf("the host still holds %s", holder)
	}
}

// stuckReset fails on the host itself until somebody has repaired it.
func stuckReset(p *place) {
	h := p.hosts(1, func(_ *infrav1.RackHost, f *fake.Host) {
		f.ResetOutcome = fake.Outcome{Failure: "/var/lib/kubelet/pods/x is busy", Log: "umount: target is busy"}
	})[0]
	p.machine("m0")
	p.machineIs("m0", "Ready=Done")
	p.remove("m0")
	stuck := p.hostIs("h0", infrav1.HostDirty, "Clean=ResetFailed", "Ready=ResetFailed")
	if c := meta.FindStatusCondition(stuck.Status.Conditions, "Clean"); !strings.Contains(c.Message, "umount: target is busy") {
		p.t.Errorf("Clean says %q", c.Message)
	}
	p.must(p.Get(p.ctx, p.key("m0"), &infrav1.RackMachine{}))
	h.FailNext(fake.CallReset, &driver.UnreachableError{Address: "h0", Err: fmt.Errorf("repairing")})
	h.ResetOutcome = fake.Outcome{}
	p.gone(&infrav1.RackMachine{}, "m0")
	p.hostIs("h0", infrav1.HostAvailable, "Clean=Verified")
}

func foreign(p *place) {
	h := p.hosts(1, func(_ *infrav1.RackHost, f *fake.Host) { p.adopt(f, "of-another-management-cluster") })[0]
	p.hostIs("h0", infrav1.HostQuarantined, "Ready=InUseByOther", "Clean=InUseByOther")
	p.machine("m0")
	p.machineIs("m0", "HostClaimed=NoHostAvailable")
	if p.holder(h) == "" {
		p.t.Error("a foreign host was reset")
	}
	p.annotate(&infrav1.RackHost{}, "h0", infrav1.CleanAnnotation, "now")
	p.machineIs("m0", "Ready=Done")
	if _, still := p.host("h0").Annotations[infrav1.CleanAnnotation]; still {
		p.t.Error("the request to clean was not taken off")
	}
}

func rackCluster(p *place) {
	i := 0
	p.hosts(3, func(h *infrav1.RackHost, _ *fake.Host) {
		h.Spec.FailureDomain = []string{"rack-b", "rack-a", "rack-b"}[i]
		i++
	})
	owner := []metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: "Cluster", Name: p.cluster.Name, UID: p.cluster.UID}}
	endpoint := clusterv1.APIEndpoint{Host: "demo.example.com", Port: 6443}
	p.create(&infrav1.RackCluster{
		ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: p.namespace, OwnerReferences: owner},
		Spec:       infrav1.RackClusterSpec{ControlPlaneEndpoint: endpoint},
	})
	p.create(&infrav1.RackCluster{ObjectMeta: metav1.ObjectMeta{
		Name: "external", Namespace: p.namespace, OwnerReferences: owner, Annotations: map[string]string{clusterv1.ManagedByAnnotation: "someone"},
	}})
	want := []clusterv1.FailureDomain{{Name: "rack-a", ControlPlane: ptr.To(false)}, {Name: "rack-b", ControlPlane: ptr.To(false)}}
	c := &infrav1.RackCluster{}
	p.eventually("the RackCluster", func() string {
		p.must(p.Get(p.ctx, p.key("demo"), c))
		if !ptr.Deref(c.Status.Initialization.Provisioned, false) {
			return "is not provisioned"
		}
		return cmp.Diff(want, c.Status.FailureDomains) + missing(c.Status.Conditions, []string{"Ready=Done", "Paused=NotPaused"})
	})
	if c.Spec.ControlPlaneEndpoint != endpoint {
		p.t.Errorf("endpoint became %v", c.Spec.ControlPlaneEndpoint)
	}
	p.machine("m0", func(m *clusterv1.Machine, _ *infrav1.RackMachine) { m.Spec.FailureDomain = "rack-a" })
	if m := p.machineIs("m0", "Ready=Done"); m.Status.FailureDomain != "rack-a" || m.Status.Host != "h1" {
		p.t.Errorf("host %s in %s", m.Status.Host, m.Status.FailureDomain)
	}
	p.must(p.Get(p.ctx, p.key("external"), c))
	if c.Status.Initialization.Provisioned != nil {
		p.t.Error("an externally managed RackCluster was touched")
	}
}

func validation(p *place) {
	host := func(change func(*infrav1.SSHAccess)) *infrav1.RackHost {
		h := &infrav1.RackHost{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "v-", Namespace: p.namespace},
			Spec:       infrav1.RackHostSpec{SSH: infrav1.SSHAccess{Address: "192.0.2.7", PrivateKeySecretRef: infrav1.SecretKeyReference{Name: "ssh"}}},
		}
		change(&h.Spec.SSH)
		return h
	}
	for want, obj := range map[string]client.Object{
		"":                             host(func(s *infrav1.SSHAccess) { s.Address = "2001:db8::7" }),
		"without a port":               host(func(s *infrav1.SSHAccess) { s.Address = "192.0.2.7:22" }),
		"POSIX user name":              host(func(s *infrav1.SSHAccess) { s.User = "root; id" }),
		"must be a line of the host's": host(func(s *infrav1.SSHAccess) { s.HostKeys = []string{"AAAA"} }),
		"cannot be in a template": &infrav1.RackMachineTemplate{
			ObjectMeta: metav1.ObjectMeta{Name: "t", Namespace: p.namespace},
			Spec:       infrav1.RackMachineTemplateSpec{Template: infrav1.RackMachineTemplateResource{Spec: infrav1.RackMachineSpec{ProviderID: "rack://a/b"}}},
		},
	} {
		err := p.Create(p.ctx, obj, client.DryRunAll)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			p.t.Errorf("want %q, got %v", want, err)
		}
	}
	p.hosts(1)
	p.machine("m0")
	m := p.machineIs("m0", "Ready=Done")
	m.Spec.ProviderID = "rack://a/b"
	if err := p.Update(p.ctx, m); err == nil || !strings.Contains(err.Error(), "providerID cannot change") {
		p.t.Errorf("changing the providerID: %v", err)
	}
}
