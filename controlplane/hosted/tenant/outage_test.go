// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

func storeThatIs(name string, ready bool, message string) *kamajiv1alpha1.DataStore {
	out := &kamajiv1alpha1.DataStore{ObjectMeta: metav1.ObjectMeta{Name: name}}
	out.Status.Ready = ready
	out.Status.Conditions = []metav1.Condition{{Type: phase.Ready, Status: metav1.ConditionFalse, Message: message}}
	return out
}

func TestPodsThatWaitForAStore(t *testing.T) {
	rollout := phase.Wait(kamajiv1alpha1.RolloutInProgressReason, "waits for pods")
	for name, c := range map[string]struct {
		backends     []backend
		reason, want string
	}{
		"all stores are ready": {[]backend{{store: storeThatIs("a", true, "")}}, kamajiv1alpha1.RolloutInProgressReason, "waits for pods"},
		"the second is not": {
			[]backend{{store: storeThatIs("a", true, "")}, {store: storeThatIs("b", false, "refused")}},
			kamajiv1alpha1.DataStoreNotReadyReason, "DataStore b is not ready: refused; waits for pods",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &scope{tenant: &kamajiv1alpha1.TenantControlPlane{}, ailing: ailing(c.backends)}
			reason, message := phase.Outcome(s.unserved(rollout))
			if reason != c.reason || !strings.HasPrefix(message, c.want) {
				t.Errorf("got %s: %s", reason, message)
			}
		})
	}
}

func TestWhoIsToldOfAFailedStore(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := kamajiv1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	tenant := func(name, store string, serves metav1.ConditionStatus) client.Object {
		out := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name}}
		out.Spec.DataStore = store
		out.Status.Conditions = []metav1.Condition{{Type: kamajiv1alpha1.WorkloadReadyCondition, Status: serves}}
		return out
	}
	r := &Reconciler{Client: fake.NewClientBuilder().WithScheme(scheme).WithObjects(
		tenant("serves", "a", metav1.ConditionTrue), tenant("fails", "a", metav1.ConditionFalse), tenant("elsewhere", "b", metav1.ConditionFalse),
	).WithIndex(&kamajiv1alpha1.TenantControlPlane{}, storage.UsersIndex, func(o client.Object) []string {
		return storage.UsedBy(o.(*kamajiv1alpha1.TenantControlPlane), "")
	}).Build()}
	for name, c := range map[string]struct {
		before, after bool
		want          []string
	}{
		"fails":       {true, false, []string{"fails"}},
		"still fails": {false, false, nil},
		"recovers":    {false, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
			defer q.ShutDown()
			r.failedStore().Update(t.Context(), event.UpdateEvent{ObjectOld: storeThatIs("a", c.before, ""), ObjectNew: storeThatIs("a", c.after, "")}, q)
			var got []string
			for q.Len() > 0 {
				request, _ := q.Get()
				got = append(got, request.Name)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
