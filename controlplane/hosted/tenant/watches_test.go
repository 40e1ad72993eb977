// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// Each tenant is in the status of its DataStore. If that woke the others, a thousand of them would be a million passes.
func TestDataStoresWakeTenantsRarely(t *testing.T) {
	store := func(ready bool, reason string, users ...string) *kamajiv1alpha1.DataStore {
		out := &kamajiv1alpha1.DataStore{ObjectMeta: metav1.ObjectMeta{Name: "default", Generation: 1}}
		out.Status.Ready, out.Status.UsedBy = ready, users
		out.Status.Conditions = []metav1.Condition{{Type: phase.Ready, Reason: reason}}
		return out
	}
	edited := store(true, phase.ReasonDone)
	edited.Generation = 2
	for name, c := range map[string]struct {
		before, after *kamajiv1alpha1.DataStore
		want          bool
	}{
		"another tenant uses it": {store(true, phase.ReasonDone, "ns/a"), store(true, phase.ReasonDone, "ns/a", "ns/b"), false},
		"it fails":               {store(true, phase.ReasonDone), store(false, "Unreachable"), false},
		"it works again":         {store(false, "Unreachable"), store(true, phase.ReasonDone), true},
		"its spec changes":       {store(true, phase.ReasonDone), edited, true},
	} {
		if have := storeChanged().Update(event.UpdateEvent{ObjectOld: c.before, ObjectNew: c.after}); have != c.want {
			t.Errorf("%s: wakes its tenants: %t", name, have)
		}
	}
}

func TestOwnStatusWakesNobody(t *testing.T) {
	tenant := func(change func(*kamajiv1alpha1.TenantControlPlaneStatus)) *kamajiv1alpha1.TenantControlPlane {
		out := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Generation: 1}}
		out.Status.Conditions = []metav1.Condition{{Type: phase.Ready}}
		change(&out.Status)
		return out
	}
	before := tenant(func(*kamajiv1alpha1.TenantControlPlaneStatus) {})
	for name, c := range map[string]struct {
		change func(*kamajiv1alpha1.TenantControlPlaneStatus)
		want   bool
	}{
		"a condition": {func(s *kamajiv1alpha1.TenantControlPlaneStatus) { s.Conditions[0].Reason = "Other" }, false},
		"the pods":    {func(s *kamajiv1alpha1.TenantControlPlaneStatus) { s.Kubernetes.Deployment.ReadyReplicas = 2 }, false},
		"the gateway's part": {func(s *kamajiv1alpha1.TenantControlPlaneStatus) {
			s.KamajiGateway = &kamajiv1alpha1.KamajiGatewayStatus{}
		}, true},
		"a status that was lost": {func(s *kamajiv1alpha1.TenantControlPlaneStatus) { *s = kamajiv1alpha1.TenantControlPlaneStatus{} }, true},
	} {
		if have := tenantChanged().Update(event.UpdateEvent{ObjectOld: before, ObjectNew: tenant(c.change)}); have != c.want {
			t.Errorf("%s: wakes the tenant: %t", name, have)
		}
	}
}
