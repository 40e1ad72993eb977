// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// ailing says which of the tenant's DataStores is not ready, empty for none. A
// tenant that was set up goes on all the same: it is a reason only where pods fail.
func ailing(backends []backend) string {
	for _, b := range backends {
		if !b.store.Status.Ready {
			return fmt.Sprintf("DataStore %s is not ready: %s", b.store.Name, whyNotReady(b.store))
		}
	}
	return ""
}

// unserved says what a roll-out waits for. Pods can't be ready without their store,
// which then is what somebody has to look at.
func (s *scope) unserved(rollout error) error {
	reason, message := phase.Outcome(rollout)
	if reason == kamajiv1alpha1.SleepingReason && s.tenant.WakeFor() > 0 {
		message += fmt.Sprintf("; a client that proves who it is wakes the control plane for %s", s.tenant.WakeFor())
	}
	if s.ailing != "" {
		reason, message = kamajiv1alpha1.DataStoreNotReadyReason, s.ailing+"; "+message
	}
	return phase.Wait(reason, "%s%s", message, s.way())
}

// failedStore wakes the tenants of a DataStore that has failed whose pods don't
// serve, so that they say why. The others have nothing to do.
func (r *Reconciler) failedStore() handler.EventHandler {
	return handler.Funcs{UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q requestQueue) {
		before, ok := e.ObjectOld.(*kamajiv1alpha1.DataStore)
		after, also := e.ObjectNew.(*kamajiv1alpha1.DataStore)
		if !ok || !also || !before.Status.Ready || after.Status.Ready {
			return
		}
		var tenants kamajiv1alpha1.TenantControlPlaneList
		if err := r.Client.List(ctx, &tenants, client.MatchingFields{storage.UsersIndex: after.Name}); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "listing the tenants of a DataStore", "datastore", after.Name)
			return
		}
		for i := range tenants.Items {
			if tenant := &tenants.Items[i]; meta.IsStatusConditionFalse(tenant.Status.Conditions, kamajiv1alpha1.WorkloadReadyCondition) {
				q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(tenant)})
			}
		}
	}}
}
