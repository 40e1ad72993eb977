// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
)

// Quarantine is how long a port stays taken after its tenant is gone. Workers of the old tenant that are still running keep dialling it.
const Quarantine = 24 * time.Hour

// LeaseReconciler releases ports of tenants that are gone and deletes leases after Quarantine. It needs no finalizer: a lease that
// outlived its tenant while nobody looked is found when the manager starts, since every lease is reconciled then.
type LeaseReconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Clock says what time it is.
	Clock clock.PassiveClock
}

// +kubebuilder:rbac:groups=controlplane.cluster.x-k8s.io,resources=gatewayportleases,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups=controlplane.cluster.x-k8s.io,resources=gatewayportleases/status,verbs=get;patch

// Reconcile releases or deletes the lease when its time has come.
func (r *LeaseReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	lease := &v1alpha2.GatewayPortLease{}
	if err := r.Client.Get(ctx, req.NamespacedName, lease); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	tenant, err := r.holder(ctx, lease)
	if err != nil {
		return ctrl.Result{}, err
	}
	now := r.Clock.Now()
	switch todo, after := due(lease, tenant, now); todo {
	case release:
		log.FromContext(ctx).Info("releasing port", "gateway", lease.Spec.Gateway, "port", lease.Spec.Port, "tenant", leaseHolder(lease))
		return ctrl.Result{RequeueAfter: Quarantine}, r.setReleased(ctx, lease, now)
	case free:
		log.FromContext(ctx).Info("freeing port", "gateway", lease.Spec.Gateway, "port", lease.Spec.Port, "tenant", leaseHolder(lease))
		return ctrl.Result{}, r.delete(ctx, lease)
	default:
		return ctrl.Result{RequeueAfter: after}, nil
	}
}

// action is what a lease needs.
type action int

const (
	keep action = iota
	release
	free
)

// due decides what a lease needs at the time now, given its tenant (nil: gone), and otherwise when to look again (0: not by time).
func due(lease *v1alpha2.GatewayPortLease, tenant *kamajiv1alpha1.TenantControlPlane, now time.Time) (action, time.Duration) {
	released, needed := lease.Status.ReleasedAt, needs(lease, tenant)
	switch {
	case released == nil && !needed:
		return release, 0
	case released == nil || needed:
		// A released lease that is needed after all is taken up by the tenant's own reconcile.
		return keep, 0
	}
	if left := released.Add(Quarantine).Sub(now); left > 0 {
		return keep, left
	}
	return free, 0
}

// needs tells whether the tenant still wants the port: it asks for the gateway, and its status doesn't name another port there. Without status, as
// after a restore, it does.
func needs(lease *v1alpha2.GatewayPortLease, tenant *kamajiv1alpha1.TenantControlPlane) bool {
	if tenant == nil || tenant.Spec.ControlPlane.KamajiGateway == nil || tenant.Spec.ControlPlane.KamajiGateway.Name != lease.Spec.Gateway {
		return false
	}
	status := tenant.Status.KamajiGateway
	return status == nil || status.Name != lease.Spec.Gateway || status.TenantPort == 0 || status.TenantPort == lease.Spec.Port
}

func (r *LeaseReconciler) holder(ctx context.Context, lease *v1alpha2.GatewayPortLease) (*kamajiv1alpha1.TenantControlPlane, error) {
	tcp := &kamajiv1alpha1.TenantControlPlane{}
	if err := r.Client.Get(ctx, leaseHolder(lease), tcp); apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading TenantControlPlane %s: %w", leaseHolder(lease), err)
	}
	return tcp, nil
}

func (r *LeaseReconciler) setReleased(ctx context.Context, lease *v1alpha2.GatewayPortLease, now time.Time) error {
	before := lease.DeepCopy()
	lease.Status.ReleasedAt = &metav1.Time{Time: now}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, lease, patch, client.FieldOwner(fieldOwner)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("releasing GatewayPortLease %s: %w", lease.Name, err)
	}
	return nil
}

// delete removes the lease that was read, not one that was taken up again since.
func (r *LeaseReconciler) delete(ctx context.Context, lease *v1alpha2.GatewayPortLease) error {
	err := r.Client.Delete(ctx, lease, client.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting GatewayPortLease %s: %w", lease.Name, err)
	}
	return nil
}
