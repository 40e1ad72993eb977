// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/apply"
)

// countDelay gathers changes of many tenants into one update of a gateway's count.
const countDelay = 2 * time.Second

// Options of SetupWithManager.
type Options struct {
	// Namespace of the manager, in which data planes run.
	Namespace string
	// Image of the Embedded data plane, for gateways that name none.
	Image string
	// XDSAddress is host:port at which data planes in the cluster reach the xDS server; the host must be a name in its certificate.
	XDSAddress string
	// XDSIssuer is the cert-manager Issuer in Namespace for the certificates of data planes. Empty: DefaultXDSIssuer.
	XDSIssuer string
}

// SetupWithManager adds the three reconcilers of this package, which run on the leader.
func SetupWithManager(ctx context.Context, mgr ctrl.Manager, options Options) error {
	if options.XDSIssuer == "" {
		options.XDSIssuer = DefaultXDSIssuer
	}
	if err := addIndexes(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	gateways := &Reconciler{
		Client:    mgr.GetClient(),
		Recorder:  mgr.GetEventRecorder("kamaji-gateway"),
		Clock:     clock.RealClock{},
		Writer:    &apply.Writer{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Owner: fieldOwner},
		placement: placement{options.Namespace, options.Image, options.XDSAddress, options.XDSIssuer},
		tally:     newTally(),
	}
	tenants := &TenantReconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("kamaji-gateway-tenant")}
	leases := &LeaseReconciler{Client: mgr.GetClient(), Clock: clock.RealClock{}}
	if err := gateways.watch(mgr); err != nil {
		return fmt.Errorf("watching for KamajiGateways: %w", err)
	}
	if err := tenants.watch(mgr); err != nil {
		return fmt.Errorf("watching for tenants of gateways: %w", err)
	}
	if err := leases.watch(mgr); err != nil {
		return fmt.Errorf("watching for GatewayPortLeases: %w", err)
	}
	return nil
}

func (r *Reconciler) watch(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("kamajigateway").
		For(&v1alpha2.KamajiGateway{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&appsv1.DaemonSet{}).Owns(&corev1.ConfigMap{}).Owns(&policyv1.PodDisruptionBudget{}).
		// An address conflict ends when the other gateway goes. There are few gateways.
		Watches(&v1alpha2.KamajiGateway{}, r.otherGateways(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha2.GatewayPortLease{}, r.tally.handler()).
		Complete(r)
}

// otherGateways maps a gateway to all others.
func (r *Reconciler) otherGateways() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		all := &v1alpha2.KamajiGatewayList{}
		if err := r.Client.List(ctx, all); err != nil {
			log.FromContext(ctx).Error(err, "listing KamajiGateways")
			return nil
		}
		var requests []reconcile.Request
		for i := range all.Items {
			if name := all.Items[i].Name; name != o.GetName() {
				requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
			}
		}
		return requests
	})
}

func (r *TenantReconciler) watch(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("gateway-tenant").
		WithOptions(controller.Options{MaxConcurrentReconciles: 1}).
		For(&kamajiv1alpha1.TenantControlPlane{}, builder.WithPredicates(addressMayChange)).
		Watches(&kamajiv1alpha1.TenantControlPlane{}, r.contenders(), builder.WithPredicates(addressMayChange)).
		Watches(&v1alpha2.KamajiGateway{}, handler.EnqueueRequestsFromMapFunc(r.tenantsOf), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha2.GatewayPortLease{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			return []reconcile.Request{{NamespacedName: leaseHolder(o.(*v1alpha2.GatewayPortLease))}}
		})).
		Complete(r)
}

// addressMayChange leaves out updates that touch nothing a TenantReconciler reads or writes, such as the engine's status.
var addressMayChange = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*kamajiv1alpha1.TenantControlPlane)
	if !ok {
		return true
	}
	after := e.ObjectNew.(*kamajiv1alpha1.TenantControlPlane)
	condition := func(tcp *kamajiv1alpha1.TenantControlPlane) any {
		return meta.FindStatusCondition(tcp.Status.Conditions, v1alpha2.GatewayAddressReadyCondition)
	}
	_, wasPaused := before.Annotations[kamajiv1alpha1.PausedAnnotation]
	_, paused := after.Annotations[kamajiv1alpha1.PausedAnnotation]
	return before.Generation != after.Generation || wasPaused != paused ||
		!equality.Semantic.DeepEqual(before.Status.KamajiGateway, after.Status.KamajiGateway) ||
		!equality.Semantic.DeepEqual(condition(before), condition(after))
}}

// contenders looks after the tenants that wait for a host name which another tenant gave up.
func (r *TenantReconciler) contenders() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	enqueue := func(ctx context.Context, o client.Object, q queue) {
		for _, key := range r.hostKeysNow(ctx, o.(*kamajiv1alpha1.TenantControlPlane)) {
			list := &kamajiv1alpha1.TenantControlPlaneList{}
			if err := r.Client.List(ctx, list, client.MatchingFields{hostIndex: key}); err != nil {
				log.FromContext(ctx).Error(err, "looking for tenants by host name", "key", key)
				continue
			}
			for i := range list.Items {
				if name := client.ObjectKeyFromObject(&list.Items[i]); name != client.ObjectKeyFromObject(o) {
					q.Add(reconcile.Request{NamespacedName: name})
				}
			}
		}
	}
	return handler.Funcs{
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) { enqueue(ctx, e.ObjectOld, q) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { enqueue(ctx, e.Object, q) },
	}
}

// hostKeysNow are the keys of hostIndex for all host names that the tenant asked for or had, whichever way others write them.
func (r *TenantReconciler) hostKeysNow(ctx context.Context, tcp *kamajiv1alpha1.TenantControlPlane) []string {
	var keys []string
	if spec := tcp.Spec.ControlPlane.KamajiGateway; spec != nil {
		gateway := &v1alpha2.KamajiGateway{}
		if err := r.Client.Get(ctx, client.ObjectKey{Name: spec.Name}, gateway); err == nil {
			if own, additional, err := hostnames(tcp, gateway); err == nil {
				for _, host := range append(additional, own) {
					keys = append(keys, keysOf(gateway, host)...)
				}
			}
		}
	}
	if status := tcp.Status.KamajiGateway; status != nil {
		gateway := &v1alpha2.KamajiGateway{}
		if err := r.Client.Get(ctx, client.ObjectKey{Name: status.Name}, gateway); err == nil {
			for _, host := range append([]string{status.Hostname}, status.AdditionalHostnames...) {
				keys = append(keys, keysOf(gateway, host)...)
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// tenantsOf maps a gateway to its tenants, and to those of gateways that want one of its addresses. Gateways change rarely.
func (r *TenantReconciler) tenantsOf(ctx context.Context, o client.Object) []reconcile.Request {
	changed := o.(*v1alpha2.KamajiGateway)
	names := []string{changed.Name}
	all := &v1alpha2.KamajiGatewayList{}
	if err := r.Client.List(ctx, all); err != nil {
		log.FromContext(ctx).Error(err, "listing KamajiGateways")
	}
	for i := range all.Items {
		if other := &all.Items[i]; other.Name != changed.Name && sharedAddress(changed, other) != "" {
			names = append(names, other.Name)
		}
	}
	var requests []reconcile.Request
	for _, name := range names {
		list := &kamajiv1alpha1.TenantControlPlaneList{}
		if err := r.Client.List(ctx, list, client.MatchingFields{gatewayIndex: name}); err != nil {
			log.FromContext(ctx).Error(err, "looking for tenants of a gateway", "gateway", name)
			continue
		}
		for i := range list.Items {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return requests
}

func (r *LeaseReconciler) watch(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("gateway-lease").
		For(&v1alpha2.GatewayPortLease{}).
		Watches(&kamajiv1alpha1.TenantControlPlane{}, handler.EnqueueRequestsFromMapFunc(r.leasesOf), builder.WithPredicates(addressMayChange)).
		Complete(r)
}

// leasesOf maps a tenant to its leases, on whatever gateway.
func (r *LeaseReconciler) leasesOf(ctx context.Context, o client.Object) []reconcile.Request {
	list := &v1alpha2.GatewayPortLeaseList{}
	if err := r.Client.List(ctx, list, client.MatchingFields{tenantIndex: client.ObjectKeyFromObject(o).String()}); err != nil {
		log.FromContext(ctx).Error(err, "looking for port leases of a tenant")
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}
