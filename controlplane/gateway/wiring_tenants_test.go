// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"net/netip"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
)

func tenantsOnAGateway(w *world) {
	t := w.T
	stop := w.run()

	// The gateway may come after its tenants.
	w.create(newTenant("c1", onGateway("default")))
	w.refused("c1", v1alpha2.GatewayNotFoundReason)
	w.create(w.gateway("default", "203.0.113.10", "10.0.0.5"))
	c1 := w.address("c1")
	if c1.Hostname != "c1.k8s.example.com" || c1.PublicAddress != "203.0.113.10" || c1.PrivateAddress != "10.0.0.5" || c1.Port != 6443 || c1.TenantPort < 10000 {
		t.Errorf("address of c1: %+v", c1)
	}
	if got := w.lease(c1.TenantPort).Spec.Tenant.Name; got != "c1" {
		t.Errorf("the lease of c1's port belongs to %s", got)
	}

	// The same name in other ways: the second waits, and gets it when the first goes.
	w.create(newTenant("c2", &kamajiv1alpha1.KamajiGatewaySpec{Name: "default", AdditionalHostnames: []string{"c1.k8s.example.com"}}))
	w.refused("c2", v1alpha2.HostnameConflictReason)
	if got := w.tenant("c2").Status.KamajiGateway; got != nil {
		t.Errorf("c2 has an address in spite of the conflict: %+v", got)
	}

	// A wiped status, while nobody looks, comes back the same.
	stop()
	before := w.tenant("c1")
	wiped := before.DeepCopy()
	wiped.Status = kamajiv1alpha1.TenantControlPlaneStatus{}
	if err := w.client.Status().Update(w.ctx, wiped); err != nil {
		t.Fatal(err)
	}
	stop = w.run()
	if got := w.address("c1"); got.TenantPort != c1.TenantPort || got.Hostname != c1.Hostname {
		t.Errorf("after its status was wiped: %+v, before: %+v", got, c1)
	}

	// A tenant that goes while nobody looks: its port is released, not freed, and its name goes to who waits for it.
	stop()
	if err := w.client.Delete(w.ctx, w.tenant("c1")); err != nil {
		t.Fatal(err)
	}
	w.run()
	w.eventually(func() string {
		if w.lease(c1.TenantPort).Status.ReleasedAt == nil {
			return "the port of c1 is released"
		}
		return ""
	})
	c2 := w.address("c2")
	if c2.TenantPort == c1.TenantPort || len(c2.AdditionalHostnames) != 1 {
		t.Errorf("address of c2: %+v", c2)
	}

	// A tenant of the same name takes up its port again.
	w.create(newTenant("c1", &kamajiv1alpha1.KamajiGatewaySpec{Name: "default", Hostname: "other.example.com"}))
	if got := w.address("c1"); got.TenantPort != c1.TenantPort {
		t.Errorf("c1 is back on port %d, it had %d", got.TenantPort, c1.TenantPort)
	}
	w.eventually(func() string {
		if w.lease(c1.TenantPort).Status.ReleasedAt != nil {
			return "the lease of c1 is taken up"
		}
		return ""
	})

	// A tenant that leaves the gateway has no address there.
	leaving := w.tenant("c2")
	w.change(leaving, func() { leaving.Spec.ControlPlane.KamajiGateway = nil })
	w.eventually(func() string {
		c2 := w.tenant("c2")
		if c2.Status.KamajiGateway != nil || meta.FindStatusCondition(c2.Status.Conditions, v1alpha2.GatewayAddressReadyCondition) != nil {
			return "c2 has no address"
		}
		if w.lease(leaving.Status.KamajiGateway.TenantPort).Status.ReleasedAt == nil {
			return "the port of c2 is released"
		}
		return ""
	})
}

// A tenant for workers only, on a gateway where each tenant has a private address.
func privateTenants(w *world) {
	t := w.T
	w.create(w.gateway("default", "203.0.113.10", "10.0.0.5", func(g *v1alpha2.KamajiGateway) {
		g.Spec.PrivatePrefix, g.Spec.HostnameTemplate = "10.255.0.0/17", "{name}-{namespace}.{domain}"
	}))
	w.run()
	w.create(newTenant("c1", &kamajiv1alpha1.KamajiGatewaySpec{Name: "default", Exposure: kamajiv1alpha1.GatewayExposurePrivate}))
	w.create(newTenant("c2", onGateway("default")))
	c1, c2 := w.address("c1"), w.address("c2")
	if c1.Hostname != "c1-default.k8s.example.com" || c1.PublicAddress != "" || c2.PublicAddress != "203.0.113.10" {
		t.Errorf("names and addresses: %+v and %+v", c1, c2)
	}
	prefix := netip.MustParsePrefix("10.255.0.0/17")
	for _, text := range []string{c1.TenantAddress, c2.TenantAddress} {
		if a, err := netip.ParseAddr(text); err != nil || !prefix.Contains(a) {
			t.Errorf("tenant address %q is none of the prefix", text)
		}
	}
	if c1.TenantAddress == c2.TenantAddress {
		t.Errorf("both have the address %s", c1.TenantAddress)
	}
	// Who keeps a name learns that somebody else wants it.
	w.create(newTenant("c3", &kamajiv1alpha1.KamajiGatewaySpec{Name: "default", Hostname: c2.Hostname}))
	w.refused("c3", v1alpha2.HostnameConflictReason)
	w.event("c3", v1alpha2.HostnameConflictReason)
	w.event("c2", contestedEvent)
	// A tenant that becomes public is given the address.
	open := w.tenant("c1")
	w.change(open, func() { open.Spec.ControlPlane.KamajiGateway.Exposure = kamajiv1alpha1.GatewayExposurePublicAndPrivate })
	w.eventually(func() string {
		if s := w.tenant("c1").Status.KamajiGateway; s == nil || s.PublicAddress == "" {
			return "c1 has the public address"
		}
		return ""
	})
}

func portsRunOut(w *world) {
	t := w.T
	w.create(w.gateway("default", "203.0.113.10", "10.0.0.5", func(g *v1alpha2.KamajiGateway) {
		g.Spec.TenantPorts = &v1alpha2.TenantPorts{PortRange: v1alpha2.PortRange{First: 20000, Last: 20001}}
	}))
	w.run()
	w.create(newTenant("c1", onGateway("default")))
	w.create(newTenant("c2", onGateway("default")))
	if a, b := w.address("c1").TenantPort, w.address("c2").TenantPort; a == b {
		t.Errorf("c1 and c2 have the same port %d", a)
	}
	w.create(newTenant("c3", onGateway("default")))
	w.refused("c3", v1alpha2.PortsExhaustedReason)
	g := &v1alpha2.KamajiGateway{}
	if err := w.client.Get(w.ctx, client.ObjectKey{Name: "default"}, g); err != nil {
		t.Fatal(err)
	}
	w.change(g, func() { g.Spec.TenantPorts.Last = 20002 })
	if got := w.address("c3").TenantPort; got != 20002 {
		t.Errorf("c3 has port %d, want 20002", got)
	}
	w.eventually(func() string {
		if err := w.client.Get(w.ctx, client.ObjectKey{Name: "default"}, g); err != nil {
			return err.Error()
		}
		if got := ptr.Deref(g.Status.Tenants, -1); got != 3 {
			return fmt.Sprintf("3 tenants are counted: %d", got)
		}
		return ""
	})
}

func leaseIsFreedAfterQuarantine(w *world) {
	t := w.T
	l := &v1alpha2.GatewayPortLease{
		ObjectMeta: metav1.ObjectMeta{Name: "default-20001"},
		Spec:       v1alpha2.GatewayPortLeaseSpec{Gateway: "default", Port: 20001, Tenant: v1alpha2.LeaseTenant{Namespace: "default", Name: "gone"}},
	}
	w.create(l)
	now := clocktesting.NewFakePassiveClock(time.Now().Truncate(time.Second))
	r := &LeaseReconciler{Client: w.client, Clock: now}
	reconcile := func() time.Duration {
		t.Helper()
		result, err := r.Reconcile(w.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(l)})
		if err != nil {
			t.Fatal(err)
		}
		return result.RequeueAfter
	}
	if got := reconcile(); got != Quarantine {
		t.Errorf("after the release: looks again after %s, want %s", got, Quarantine)
	}
	now.SetTime(now.Now().Add(Quarantine - time.Minute))
	if got := reconcile(); got != time.Minute {
		t.Errorf("a minute before the end: looks again after %s, want 1m", got)
	}
	if w.lease(20001).Status.ReleasedAt == nil {
		t.Error("the lease is not marked released")
	}
	now.SetTime(now.Now().Add(time.Minute))
	reconcile()
	if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(l), l); !apierrors.IsNotFound(err) {
		t.Errorf("after the quarantine: got %v, want the lease gone", err)
	}
	reconcile()
}
