// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

func sample(change ...func(*kamajiv1alpha1.TenantControlPlane)) *kamajiv1alpha1.TenantControlPlane {
	tenant := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "customer1"}}
	tenant.Spec.DataStore = "default"
	tenant.Spec.Kubernetes.Version = "1.31.0"
	for _, c := range change {
		c(tenant)
	}
	return tenant
}

func TestDefault(t *testing.T) {
	first, second := sample(), sample()
	first.Spec.DataStore = ""
	d := &defaulter{dataStore: "fallback"}
	for _, tenant := range []*kamajiv1alpha1.TenantControlPlane{first, second} {
		if err := d.Default(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
		if problems := validate(nil, tenant); len(problems) > 0 {
			t.Errorf("the defaults are invalid: %v", problems)
		}
	}
	if first.Spec.DataStore != "fallback" || second.Spec.DataStore != "default" {
		t.Errorf("dataStore: %q, %q", first.Spec.DataStore, second.Spec.DataStore)
	}
	if first.Spec.DataStoreSchema == "" || first.Spec.DataStoreSchema == second.Spec.DataStoreSchema {
		t.Errorf("two tenants of one name share the schema %q", first.Spec.DataStoreSchema)
	}
	again := first.DeepCopy()
	if err := d.Default(t.Context(), again); err != nil || again.Spec.DataStoreSchema != first.Spec.DataStoreSchema {
		t.Errorf("the second call changed the schema (%v)", err)
	}
}

func TestValidate(t *testing.T) {
	type change = func(*kamajiv1alpha1.TenantControlPlane)
	running := func(version string) change {
		return func(tenant *kamajiv1alpha1.TenantControlPlane) {
			tenant.Spec.Kubernetes.Version = version
			tenant.Status.Kubernetes.Version.Version = version
		}
	}
	for name, c := range map[string]struct {
		before change
		after  change
		// want is part of the message, empty for a valid object.
		want string
	}{
		"the sample":              {},
		"name with a dot":         {after: func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Name = "a.b" }, want: "metadata.name"},
		"no version":              {after: func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Spec.Kubernetes.Version = "latest" }, want: "latest"},
		"version too old":         {after: func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Spec.Kubernetes.Version = "1.20.0" }, want: "choose one from"},
		"one minor up":            {before: running("v1.35.1"), after: func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Spec.Kubernetes.Version = "v1.36.3" }},
		"three minors up":         {before: running("v1.33.1"), after: func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Spec.Kubernetes.Version = "v1.36.3" }},
		"a minor down":            {before: running("v1.36.3"), after: func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Spec.Kubernetes.Version = "v1.35.1" }, want: "older"},
		"never ran, a minor down": {before: func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Spec.Kubernetes.Version = "v1.36.3" }, after: func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Spec.Kubernetes.Version = "v1.34.1" }},
		"schema with a slash":     {after: func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Spec.DataStoreSchema = "a/b" }, want: "spec.dataStoreSchema"},
		"user root":               {after: func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Spec.DataStoreUsername = "root" }, want: "spec.dataStoreUsername"},
		"both empty": {after: func(tn *kamajiv1alpha1.TenantControlPlane) {
			tn.Spec.DataStoreSchema, tn.Spec.DataStoreUsername = "", ""
		}},
		"datastore changed": {
			before: func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Status.Storage.Setup.Schema = "x" },
			after:  func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Spec.DataStore = "other" },
		},
		"read-only": {after: func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Spec.WritePermissions.BlockUpdate = true }},
		"read-only beside another authorizer": {after: func(tn *kamajiv1alpha1.TenantControlPlane) {
			tn.Spec.WritePermissions.BlockUpdate = true
			tn.Spec.ControlPlane.Deployment.ExtraArgs = &kamajiv1alpha1.ControlPlaneExtraArgs{APIServer: []string{"--authorization-mode=Node,RBAC,Webhook"}}
		}, want: "remove --authorization-mode"},
		"override twice": {after: func(tn *kamajiv1alpha1.TenantControlPlane) {
			o := kamajiv1alpha1.DataStoreOverride{Resource: "/events", DataStore: "events"}
			tn.Spec.DataStoreOverrides = []kamajiv1alpha1.DataStoreOverride{o, o}
		}, want: "Duplicate"},
		"DNS outside": {after: func(tn *kamajiv1alpha1.TenantControlPlane) {
			tn.Spec.NetworkProfile.DNSServiceIPs = []string{"10.1.0.10"}
		}, want: "dnsServiceIPs[0]"},
		"DNS inside": {after: func(tn *kamajiv1alpha1.TenantControlPlane) {
			tn.Spec.NetworkProfile.DNSServiceIPs = []string{"10.96.0.10"}
		}},
		"bad SAN": {after: func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Spec.NetworkProfile.CertSANs = []string{"a b"} }, want: "certSANs"},
		"good SANs": {after: func(tn *kamajiv1alpha1.TenantControlPlane) {
			tn.Spec.NetworkProfile.CertSANs = []string{"a.example.com", "192.0.2.1"}
		}},
		"ranges overlap": {after: func(tn *kamajiv1alpha1.TenantControlPlane) {
			tn.Spec.NetworkProfile.PodCIDRs = []string{"10.96.0.0/12"}
		}, want: "overlaps"},
		"two IPv4 ranges": {after: func(tn *kamajiv1alpha1.TenantControlPlane) {
			tn.Spec.NetworkProfile.PodCIDRs = []string{"10.1.0.0/16", "10.2.0.0/16"}
		}, want: "IPv6"},
	} {
		t.Run(name, func(t *testing.T) {
			var before *kamajiv1alpha1.TenantControlPlane
			tenant := sample()
			if c.before != nil {
				before = sample(c.before)
				tenant = before.DeepCopy()
			}
			if c.after != nil {
				c.after(tenant)
			}
			got := validate(before, tenant).ToAggregate()
			switch {
			case c.want == "" && got != nil:
				t.Errorf("unexpected: %v", got)
			case c.want != "" && (got == nil || !strings.Contains(got.Error(), c.want)):
				t.Errorf("want an error with %q, got %v", c.want, got)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := kamajiv1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	store := &kamajiv1alpha1.DataStore{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	v := &validator{reader: fake.NewClientBuilder().WithScheme(scheme).WithObjects(store).Build()}
	for name, c := range map[string]struct {
		change func(*kamajiv1alpha1.TenantControlPlane)
		want   admission.Warnings
	}{
		"the sample": {change: func(*kamajiv1alpha1.TenantControlPlane) {}},
		"no such store": {
			change: func(tn *kamajiv1alpha1.TenantControlPlane) { tn.Spec.DataStore = "other" },
			want:   admission.Warnings{"DataStore other does not exist; the control plane waits until it does"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := v.ValidateCreate(t.Context(), sample(c.change))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// Only what can be moved may be asked to.
func TestMove(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := kamajiv1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	store := func(name string, driver kamajiv1alpha1.Driver) *kamajiv1alpha1.DataStore {
		return &kamajiv1alpha1.DataStore{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: kamajiv1alpha1.DataStoreSpec{Driver: driver}}
	}
	v := &validator{reader: fake.NewClientBuilder().WithScheme(scheme).WithObjects(
		store("default", kamajiv1alpha1.DriverEtcd), store("second", kamajiv1alpha1.DriverEtcd), store("sql", kamajiv1alpha1.DriverMySQL), store("nats", kamajiv1alpha1.DriverNATS)).Build()}
	apart := []kamajiv1alpha1.DataStoreOverride{{Resource: "/events", DataStore: "second"}}
	for _, test := range []struct {
		target, want string
		overrides    []kamajiv1alpha1.DataStoreOverride
	}{
		{"second", "", nil}, {"sql", "", nil}, {"missing", "", nil}, {"second", "", apart},
		{"nats", "", nil}, {"sql", "must be an etcd as well", apart}, {"nats", "must be an etcd as well", apart}, {"missing", "", apart},
	} {
		target, want := test.target, test.want
		before := sample(func(tn *kamajiv1alpha1.TenantControlPlane) {
			tn.Spec.DataStore, tn.Status.Storage.DataStoreName, tn.Spec.DataStoreOverrides = "default", "default", test.overrides
		})
		after := before.DeepCopy()
		after.Spec.DataStore = target
		_, err := v.ValidateUpdate(t.Context(), before, after)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("to %s: want %q, got %v", target, want, err)
		}
	}
}
