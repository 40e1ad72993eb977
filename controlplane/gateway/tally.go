// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
)

// tally counts the tenants of each gateway from the events of leases, so that no reconcile has to look at all of them.
type tally struct {
	mu sync.Mutex
	// active holds the names of leases that were not released, by gateway.
	active map[string]map[string]bool
}

func newTally() *tally { return &tally{active: map[string]map[string]bool{}} }

func (t *tally) count(gateway string) int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int32(len(t.active[gateway]))
}

// set notes whether a lease counts and tells whether that is news.
func (t *tally) set(lease *v1alpha2.GatewayPortLease, counts bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	leases := t.active[lease.Spec.Gateway]
	if leases[lease.Name] == counts {
		return false
	}
	if !counts {
		delete(leases, lease.Name)
		return true
	}
	if leases == nil {
		leases = map[string]bool{}
		t.active[lease.Spec.Gateway] = leases
	}
	leases[lease.Name] = true
	return true
}

// handler keeps the tally and has a gateway reconciled, after a while, when its number changed. A controller handles the events of all
// existing objects before its first reconcile, so the first count is complete.
func (t *tally) handler() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	note := func(o client.Object, gone bool, q queue) {
		lease := o.(*v1alpha2.GatewayPortLease)
		if t.set(lease, !gone && lease.Status.ReleasedAt == nil) {
			q.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Name: lease.Spec.Gateway}}, countDelay)
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { note(e.Object, false, q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { note(e.ObjectNew, false, q) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { note(e.Object, true, q) },
	}
}
