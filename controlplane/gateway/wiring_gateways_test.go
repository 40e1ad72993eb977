// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
)

func gatewayStatus(w *world) {
	w.run()
	w.create(w.gateway("default", "203.0.113.10", "10.0.0.5"))
	w.create(w.gateway("outside", "203.0.113.11", "10.0.0.6", func(g *v1alpha2.KamajiGateway) { g.Spec.DataPlane.Placement = v1alpha2.PlacementExternal }))
	w.create(w.gateway("envoy", "203.0.113.12", "10.0.0.7", func(g *v1alpha2.KamajiGateway) { g.Spec.DataPlane.Type = v1alpha2.DataPlaneEnvoy }))
	w.create(w.gateway("same", "203.0.113.10", "10.0.0.8"))
	w.issue("default", time.Now().Add(time.Hour))
	w.issue("outside", time.Now().Add(time.Hour))
	for name, want := range map[string]string{
		"default": "DataPlaneReady=False/NoMatchingNode CertificateValid=True/Done Ready=False/NoMatchingNode AddressesValid=True/Done",
		"outside": "DataPlaneReady=Unknown/External CertificateValid=True/Done Ready=True/Done AddressesValid=True/Done",
		"envoy":   "DataPlaneReady=Unknown/WaitingForEarlierStep CertificateValid=False/CertificatePending Ready=False/CertificatePending AddressesValid=True/Done",
		"same":    "DataPlaneReady=Unknown/WaitingForEarlierStep CertificateValid=Unknown/WaitingForEarlierStep Ready=False/AddressConflict AddressesValid=False/AddressConflict",
	} {
		g := &v1alpha2.KamajiGateway{}
		w.eventually(func() string {
			if err := w.client.Get(w.ctx, client.ObjectKey{Name: name}, g); err != nil {
				return err.Error()
			}
			var got []string
			for _, kind := range []string{v1alpha2.GatewayDataPlaneReadyCondition, v1alpha2.GatewayCertificateValidCondition, v1alpha2.GatewayReadyCondition, v1alpha2.GatewayAddressesValidCondition} {
				c := meta.FindStatusCondition(g.Status.Conditions, kind)
				if c == nil {
					return name + " has a condition " + kind
				}
				// No DaemonSet controller runs here, so nothing is observed unless the test plays its part.
				reason := strings.Replace(c.Reason, v1alpha2.GatewayDataPlaneNotReadyReason, v1alpha2.GatewayNoNodeReason, 1)
				got = append(got, fmt.Sprintf("%s=%s/%s", kind, c.Status, reason))
			}
			if text := strings.Join(got, " "); text != want {
				return fmt.Sprintf("%s: %s, not %s", name, want, text)
			}
			return ""
		})
	}

	// A certificate that nobody renewed.
	w.issue("outside", time.Now().Add(-time.Hour))
	outside := &v1alpha2.KamajiGateway{}
	if err := w.client.Get(w.ctx, client.ObjectKey{Name: "outside"}, outside); err != nil {
		w.Fatal(err)
	}
	w.change(outside, func() { outside.Spec.PublicPolicy = sources("198.51.100.0/24") }) // any change has it looked at
	w.eventually(func() string {
		if err := w.client.Get(w.ctx, client.ObjectKey{Name: "outside"}, outside); err != nil {
			return err.Error()
		}
		ready := meta.FindStatusCondition(outside.Status.Conditions, v1alpha2.GatewayReadyCondition)
		if ready == nil || ready.Reason != v1alpha2.GatewayCertificateExpiredReason || !strings.Contains(ready.Message, "keeps the routes") {
			return fmt.Sprintf("the gateway says that its certificate expired: %+v", ready)
		}
		return ""
	})

	// An address comes free: who waited for it gets it, and its tenants with it.
	w.create(newTenant("c1", onGateway("same")))
	w.refused("c1", v1alpha2.GatewayAddressConflictReason)
	if err := w.client.Delete(w.ctx, w.gateway("default", "", "")); err != nil {
		w.Fatal(err)
	}
	if got := w.address("c1"); got.Name != "same" || got.PublicAddress != "203.0.113.10" {
		w.Errorf("address of c1: %+v", got)
	}
}

// Deleting a gateway must not cut off who is reached through it.
func gatewayIsHeldByItsTenants(w *world) {
	w.run()
	w.create(w.gateway("default", "203.0.113.10", "10.0.0.5"))
	w.create(newTenant("c1", onGateway("default")))
	w.address("c1")
	g := &v1alpha2.KamajiGateway{}
	key := client.ObjectKey{Name: "default"}
	w.eventually(func() string {
		if err := w.client.Get(w.ctx, key, g); err != nil || g.Status.Tenants == nil || *g.Status.Tenants != 1 {
			return fmt.Sprintf("the gateway counts its tenant: %v %v", g.Status.Tenants, err)
		}
		return ""
	})
	if err := w.client.Delete(w.ctx, g); err != nil {
		w.Fatal(err)
	}
	w.eventually(func() string {
		if err := w.client.Get(w.ctx, key, g); err != nil {
			return err.Error()
		}
		if c := meta.FindStatusCondition(g.Status.Conditions, v1alpha2.GatewayDeletingCondition); c == nil || c.Reason != v1alpha2.GatewayInUseReason {
			return fmt.Sprintf("the deletion says what it waits for: %v", c)
		}
		return ""
	})
	if err := w.client.Delete(w.ctx, w.tenant("c1")); err != nil {
		w.Fatal(err)
	}
	w.eventually(func() string {
		if err := w.client.Get(w.ctx, key, g); !apierrors.IsNotFound(err) {
			return fmt.Sprintf("the gateway goes with its last tenant: %v", err)
		}
		return ""
	})
}

// Applying the data plane twice writes once.
func dataPlaneIsAppliedOnce(w *world) {
	appliedOnce(w, v1alpha2.DataPlaneEmbedded, "203.0.113.10", "10.0.0.5")
	appliedOnce(w, v1alpha2.DataPlaneEnvoy, "203.0.113.11", "10.0.0.6")
}

func appliedOnce(w *world, kind v1alpha2.DataPlaneType, public, private string) {
	t := w.T
	g := w.gateway(strings.ToLower(string(kind)), public, private, func(g *v1alpha2.KamajiGateway) {
		g.Spec.DataPlane.Type = kind
		g.Spec.DataPlane.NodeSelector = map[string]string{"kamaji.clastix.io/gateway": "true"}
		g.Spec.DataPlane.Tolerations = []corev1.Toleration{{Key: "gateway", Operator: corev1.TolerationOpExists}}
	})
	w.create(g)
	r := &Reconciler{Client: w.manager, Writer: writer(w.manager), placement: here, tally: newTally(), Recorder: events.NewFakeRecorder(100), Clock: clock.RealClock{}}
	versions := func() map[string]string {
		t.Helper()
		if _, err := r.Reconcile(w.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(g)}); err != nil {
			t.Fatal(err)
		}
		objects, err := dataPlane(g, here)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, o := range objects {
			if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(o), o); err != nil {
				t.Fatal(err)
			}
			got[fmt.Sprintf("%T", o)] = o.GetResourceVersion()
		}
		return got
	}
	first := versions()
	if len(first) != 4 {
		t.Fatalf("got %v, want 4 objects", first)
	}
	for kind, version := range versions() {
		if first[kind] != version {
			t.Errorf("%s was written again", kind)
		}
	}

	// What an External data plane doesn't need is removed, its certificate stays.
	if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(g), g); err != nil {
		t.Fatal(err)
	}
	w.change(g, func() { g.Spec.DataPlane = v1alpha2.GatewayDataPlane{Placement: v1alpha2.PlacementExternal} })
	if left := versions(); len(left) != 1 {
		t.Errorf("for an External data plane: got %v, want the certificate", left)
	}
	var left corev1.ConfigMapList
	if err := w.client.List(w.ctx, &left, client.InNamespace(namespace), client.HasLabels{GatewayLabel}); err != nil || len(left.Items) != 0 {
		t.Errorf("for an External data plane: %d ConfigMaps are left, %v", len(left.Items), err)
	}
}

// A pod mounts the ConfigMap of its own version, which must be there until the pod is gone: its container may start again.
func podsBeingReplacedKeepTheirFile(w *world) {
	g := w.gateway("default", "203.0.113.10", "10.0.0.5")
	w.create(g)
	r := &Reconciler{Client: w.manager, Writer: writer(w.manager), placement: here, tally: newTally(), Recorder: events.NewFakeRecorder(100), Clock: clock.RealClock{}}
	files := func() int {
		w.Helper()
		if _, err := r.Reconcile(w.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(g)}); err != nil {
			w.Fatal(err)
		}
		list := &corev1.ConfigMapList{}
		if err := w.client.List(w.ctx, list, client.InNamespace(namespace), client.HasLabels{GatewayLabel}); err != nil {
			w.Fatal(err)
		}
		return len(list.Items)
	}
	// nodes plays the DaemonSet controller on two nodes, of which some have a pod of the present version only.
	nodes := func(updated int32) {
		w.Helper()
		ds := &appsv1.DaemonSet{}
		if err := w.client.Get(w.ctx, client.ObjectKey{Namespace: namespace, Name: dataPlaneName(g.Name)}, ds); err != nil {
			w.Fatal(err)
		}
		ds.Status = appsv1.DaemonSetStatus{
			ObservedGeneration: ds.Generation, DesiredNumberScheduled: 2, CurrentNumberScheduled: 2, NumberReady: 2, UpdatedNumberScheduled: updated,
		}
		if err := w.client.Status().Update(w.ctx, ds); err != nil {
			w.Fatal(err)
		}
	}
	files()
	nodes(2)
	if got := files(); got != 1 {
		w.Fatalf("%d files, want 1", got)
	}
	r.placement.image = "example.com/kamaji-gateway:v2"
	if got := files(); got != 2 {
		w.Errorf("%d files when the replacement begins, want 2", got)
	}
	nodes(1)
	if got := files(); got != 2 {
		w.Errorf("%d files half way, want 2", got)
	}
	nodes(2)
	if got := files(); got != 1 {
		w.Errorf("%d files in the end, want 1", got)
	}
}

func validation(w *world) {
	t := w.T
	for name, tc := range map[string]struct {
		change func(*v1alpha2.KamajiGateway)
		want   string
	}{
		"same address twice":  {func(g *v1alpha2.KamajiGateway) { g.Spec.PublicAddress = "10.0.0.5" }, "must differ"},
		"a name as address":   {func(g *v1alpha2.KamajiGateway) { g.Spec.PublicAddress = "gw.example.com" }, "publicAddress must be a unicast IP address"},
		"loopback":            {func(g *v1alpha2.KamajiGateway) { g.Spec.PrivateAddress = "127.0.0.1" }, "privateAddress must be a unicast IP address"},
		"address not in form": {func(g *v1alpha2.KamajiGateway) { g.Spec.PublicAddress = "2001:DB8::1" }, "canonical"},
		"address as domain":   {func(g *v1alpha2.KamajiGateway) { g.Spec.Domain = "10.0.0.1" }, "domain must be a DNS name"},
		"upper-case domain":   {func(g *v1alpha2.KamajiGateway) { g.Spec.Domain = "K8s.example.com" }, "lower-case"},
		"range upside down": {func(g *v1alpha2.KamajiGateway) {
			g.Spec.TenantPorts = &v1alpha2.TenantPorts{PortRange: v1alpha2.PortRange{First: 20001, Last: 20000}}
		}, "first must not be greater"},
		"port in the range":         {func(g *v1alpha2.KamajiGateway) { g.Spec.Port = 20000 }, "outside tenantPorts"},
		"privileged port":           {func(g *v1alpha2.KamajiGateway) { g.Spec.Port = 443 }, "below 1024"},
		"long name":                 {func(g *v1alpha2.KamajiGateway) { g.Name = strings.Repeat("a", 41) }, "DNS label of at most 40"},
		"name with a dot":           {func(g *v1alpha2.KamajiGateway) { g.Name = "a.b" }, "DNS label"},
		"template without a name":   {func(g *v1alpha2.KamajiGateway) { g.Spec.HostnameTemplate = "{namespace}.{domain}" }, "must contain {name}"},
		"template of no name":       {func(g *v1alpha2.KamajiGateway) { g.Spec.HostnameTemplate = "{name}_{domain}" }, "lower-case DNS name"},
		"unknown placeholder":       {func(g *v1alpha2.KamajiGateway) { g.Spec.HostnameTemplate = "{name}.{zone}.{domain}" }, "lower-case DNS name"},
		"prefix with host bits":     {func(g *v1alpha2.KamajiGateway) { g.Spec.PrivatePrefix = "10.255.0.1/16" }, "without host bits"},
		"prefix that is none":       {func(g *v1alpha2.KamajiGateway) { g.Spec.PrivatePrefix = "10.255.0.0" }, "privatePrefix must be a unicast network"},
		"prefix too small":          {func(g *v1alpha2.KamajiGateway) { g.Spec.PrivatePrefix = "10.255.0.0/18" }, "two addresses more than tenantPorts"},
		"v6 prefix too small":       {func(g *v1alpha2.KamajiGateway) { g.Spec.PrivatePrefix = "fd00::/114" }, "two addresses more than tenantPorts"},
		"prefix with its gateway":   {func(g *v1alpha2.KamajiGateway) { g.Spec.PrivatePrefix = "10.0.0.0/16" }, "must not contain publicAddress or privateAddress"},
		"source that is no network": {func(g *v1alpha2.KamajiGateway) { g.Spec.PublicPolicy = sources("office") }, "network in CIDR notation"},
		"source with host bits":     {func(g *v1alpha2.KamajiGateway) { g.Spec.PrivatePolicy = sources("10.0.0.1/8") }, "without host bits"},
		"no source": {func(g *v1alpha2.KamajiGateway) {
			g.Spec.PrivatePolicy = &kamajiv1alpha1.GatewayPolicy{AllowedSources: []kamajiv1alpha1.SourceCIDR{}, MaxConnections: ptr.To[int32](0)}
		}, "greater than or equal to 1"},
		"metrics on the port": {func(g *v1alpha2.KamajiGateway) { g.Spec.DataPlane.MetricsPort = ptr.To[int32](6443) }, "metricsPort must be another one"},
		"metrics of a tenant": {func(g *v1alpha2.KamajiGateway) { g.Spec.DataPlane.MetricsPort = ptr.To[int32](10001) }, "metricsPort must be another one"},
		"metrics outside": {func(g *v1alpha2.KamajiGateway) {
			g.Spec.DataPlane = v1alpha2.GatewayDataPlane{Placement: v1alpha2.PlacementExternal, MetricsPort: ptr.To[int32](9903)}
		}, "metricsPort needs placement InCluster"},
		"selector outside": {func(g *v1alpha2.KamajiGateway) {
			g.Spec.DataPlane = v1alpha2.GatewayDataPlane{Placement: v1alpha2.PlacementExternal, NodeSelector: map[string]string{"a": "b"}}
		}, "not scheduled"},
	} {
		t.Run(name, func(t *testing.T) {
			err := w.client.Create(w.ctx, w.gateway("default", "203.0.113.10", "10.0.0.5", tc.change))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	g := w.gateway("default", "203.0.113.10", "10.0.0.5", func(g *v1alpha2.KamajiGateway) {
		g.Spec.PrivatePrefix, g.Spec.PublicPolicy = "10.255.0.0/17", sources("0.0.0.0/0", "2001:db8::/32", "192.0.2.7/32")
	})
	w.create(g)
	if g.Spec.HostnameTemplate != "{name}.{domain}" || g.Spec.Port != 6443 || g.Spec.TenantPorts == nil || *g.Spec.TenantPorts != (v1alpha2.TenantPorts{PortRange: v1alpha2.PortRange{First: 10000, Last: 29999}, Listen: v1alpha2.TenantPortListenAlways}) || g.Spec.DataPlane.Type != v1alpha2.DataPlaneEmbedded || g.Spec.DataPlane.Placement != v1alpha2.PlacementInCluster {
		t.Errorf("defaults: %+v", g.Spec)
	}
	for name, change := range map[string]func(*v1alpha2.KamajiGateway){
		"domain":         func(g *v1alpha2.KamajiGateway) { g.Spec.Domain = "other.example.com" },
		"privateAddress": func(g *v1alpha2.KamajiGateway) { g.Spec.PrivateAddress = "10.0.0.9" },
		"port":           func(g *v1alpha2.KamajiGateway) { g.Spec.Port = 7443 },

		"hostnameTemplate":  func(g *v1alpha2.KamajiGateway) { g.Spec.HostnameTemplate = "{name}.{namespace}.{domain}" },
		"privatePrefix":     func(g *v1alpha2.KamajiGateway) { g.Spec.PrivatePrefix = "10.254.0.0/17" },
		"tenantPorts.first": func(g *v1alpha2.KamajiGateway) { g.Spec.TenantPorts.First = 10001 },
	} {
		changed := g.DeepCopy()
		change(changed)
		if err := w.client.Patch(w.ctx, changed, client.MergeFrom(g)); err == nil || !strings.Contains(err.Error(), name+" can't change") {
			t.Errorf("changing %s: got %v", name, err)
		}
	}
	removed := g.DeepCopy()
	removed.Spec.PrivatePrefix = ""
	if err := w.client.Patch(w.ctx, removed, client.MergeFrom(g)); err == nil || !strings.Contains(err.Error(), "privatePrefix can't be removed") {
		t.Errorf("removing privatePrefix: got %v", err)
	}
	misnamed := &v1alpha2.GatewayPortLease{ObjectMeta: metav1.ObjectMeta{Name: "default-20001"}, Spec: v1alpha2.GatewayPortLeaseSpec{
		Gateway: "default", Port: 20002, Tenant: v1alpha2.LeaseTenant{Namespace: "a", Name: "c1"},
	}}
	if err := w.client.Create(w.ctx, misnamed); err == nil || !strings.Contains(err.Error(), "the name is the claim") {
		t.Errorf("a lease with another's name: got %v", err)
	}
}

func sources(networks ...kamajiv1alpha1.SourceCIDR) *kamajiv1alpha1.GatewayPolicy {
	return &kamajiv1alpha1.GatewayPolicy{AllowedSources: networks}
}

// issue plays cert-manager: the certificate of a gateway is valid until then.
func (w *world) issue(gateway string, until time.Time) {
	w.Helper()
	w.eventually(func() string {
		c := &unstructured.Unstructured{}
		c.SetGroupVersionKind(certificateKind)
		if err := w.client.Get(w.ctx, client.ObjectKey{Namespace: namespace, Name: dataPlaneName(gateway)}, c); err != nil {
			return err.Error()
		}
		c.Object["status"] = map[string]any{
			"notAfter":   until.UTC().Format(time.RFC3339),
			"conditions": []any{map[string]any{"type": "Ready", "status": "True", "message": "Certificate is up to date and has not expired"}},
		}
		if err := w.client.Status().Update(w.ctx, c); err != nil {
			return err.Error()
		}
		return ""
	})
}
