// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeconfig"
)

// leaders are the components of which one works at a time, which are also the names of their Leases in kube-system.
var leaders = []string{"kube-controller-manager", "kube-scheduler"}

const (
	// handOverRetry is when a tenant is asked again that did not answer.
	handOverRetry = 2 * time.Second
	// handOverTimeout bounds one attempt, which a tenant's webhook could make slow.
	handOverTimeout = 5 * time.Second
)

// departures are pods that have gone, by tenant, while a Lease that one of them held may still be valid. They exist only to
// save time: after a restart the Leases run out by themselves.
type departures struct {
	mu   sync.Mutex
	pods map[types.NamespacedName]map[string]time.Time
}

// note remembers a pod that has gone.
func (d *departures) note(tenant types.NamespacedName, pod string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pods == nil {
		d.pods = map[types.NamespacedName]map[string]time.Time{}
	}
	if d.pods[tenant] == nil {
		d.pods[tenant] = map[string]time.Time{}
	}
	d.pods[tenant][pod] = now
}

// of returns the pods whose Leases may still be valid.
func (d *departures) of(tenant types.NamespacedName, now time.Time) map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string]bool{}
	for pod, gone := range d.pods[tenant] {
		if now.Sub(gone) > desired.LeaseDuration {
			delete(d.pods[tenant], pod)
			continue
		}
		out[pod] = true
	}
	if len(out) == 0 {
		delete(d.pods, tenant)
	}
	return out
}

// settle forgets pods that hold nothing any more.
func (d *departures) settle(tenant types.NamespacedName, pods map[string]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for pod := range pods {
		delete(d.pods[tenant], pod)
	}
	if len(d.pods[tenant]) == 0 {
		delete(d.pods, tenant)
	}
}

func (d *departures) forget(tenant types.NamespacedName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pods, tenant)
}

// podEvents brings back the tenant of a pod that stops, and remembers one that has gone.
func (r *Reconciler) podEvents() handler.EventHandler {
	return handler.Funcs{
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q requestQueue) {
			if tenant, ok := tenantOfPod(e.ObjectNew); ok {
				q.Add(reconcile.Request{NamespacedName: tenant})
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q requestQueue) {
			if tenant, ok := tenantOfPod(e.Object); ok {
				r.departed.note(tenant, e.Object.GetName(), time.Now())
				q.Add(reconcile.Request{NamespacedName: tenant})
			}
		},
	}
}

// handOver gives away what pods that have gone led: kube-controller-manager doesn't when it stops, and its Lease is valid for
// half a minute. A pod goes when its node has seen its processes end (or somebody has vouched for that by forcing it), so
// nothing that still works loses its Lease. Nothing depends on it, and what fails is tried again until the Lease has run out.
func (r *Reconciler) handOver(ctx context.Context, s *scope) {
	tenant := client.ObjectKeyFromObject(s.tenant)
	gone := r.departed.of(tenant, s.now)
	if len(gone) == 0 || s.replicas() == 0 || s.service == nil || len(s.secrets[kubeconfig.Admin]) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	access, err := r.access(s)
	for _, name := range leaders {
		if err == nil {
			err = handOverLease(ctx, access.Client, name, gone)
		}
	}
	if err != nil {
		ctrl.LoggerFrom(ctx).V(1).Info("the Lease of a pod that has gone is left to run out, unless this succeeds in time", "reason", err.Error())
		s.due(s.now.Add(handOverRetry))
		return
	}
	r.departed.settle(tenant, gone)
	r.Remote.Forget(tenant) // nothing is asked of it before the next check
}

// handOverLease empties a Lease that a pod that has gone holds, as the component itself would have on its way out. A holder is
// named <pod>_<UUID>.
func handOverLease(ctx context.Context, tenant client.Client, name string, gone map[string]bool) error {
	lease := &coordinationv1.Lease{}
	if err := tenant.Get(ctx, types.NamespacedName{Namespace: metav1.NamespaceSystem, Name: name}, lease); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("reading Lease %s of the tenant: %w", name, err)
	}
	pod, _, _ := strings.Cut(ptr.Deref(lease.Spec.HolderIdentity, ""), "_")
	if !gone[pod] {
		return nil
	}
	now := metav1.NowMicro()
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = ptr.To(""), ptr.To(int32(1))
	lease.Spec.AcquireTime, lease.Spec.RenewTime = &now, &now
	// Of a version, so that nobody who has taken it meanwhile loses it.
	if err := tenant.Update(ctx, lease, client.FieldOwner(FieldOwner)); err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("handing over Lease %s of the tenant: %w", name, err)
	}
	return nil
}
