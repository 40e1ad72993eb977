// SPDX-License-Identifier: Apache-2.0

package datastore

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// asked is a queue that only notes what is added.
type asked struct {
	queue
	names []string
}

func (a *asked) AddAfter(request reconcile.Request, _ time.Duration) {
	a.names = append(a.names, request.Name)
}

func TestWhatTenantsTellOfStores(t *testing.T) {
	tenant := func(store string, serves metav1.ConditionStatus) *kamajiv1alpha1.TenantControlPlane {
		out := &kamajiv1alpha1.TenantControlPlane{}
		out.Spec.DataStore = store
		if serves != "" {
			out.Status.Conditions = []metav1.Condition{{Type: kamajiv1alpha1.WorkloadReadyCondition, Status: serves}}
		}
		return out
	}
	for name, c := range map[string]struct {
		before, after *kamajiv1alpha1.TenantControlPlane
		want          []string
	}{
		"nothing new":          {tenant("a", metav1.ConditionTrue), tenant("a", metav1.ConditionTrue), nil},
		"another store":        {tenant("a", metav1.ConditionTrue), tenant("b", metav1.ConditionTrue), []string{"a", "b"}},
		"pods that served":     {tenant("a", metav1.ConditionTrue), tenant("a", metav1.ConditionFalse), []string{"a"}},
		"pods never served":    {tenant("a", ""), tenant("a", metav1.ConditionFalse), nil},
		"pods serve again":     {tenant("a", metav1.ConditionFalse), tenant("a", metav1.ConditionTrue), nil},
		"pods still not ready": {tenant("a", metav1.ConditionFalse), tenant("a", metav1.ConditionFalse), nil},
	} {
		t.Run(name, func(t *testing.T) {
			q := &asked{}
			usersHandler("").Update(t.Context(), event.UpdateEvent{ObjectOld: c.before, ObjectNew: c.after}, q)
			if diff := cmp.Diff(c.want, q.names); diff != "" {
				t.Error(diff)
			}
		})
	}
}
