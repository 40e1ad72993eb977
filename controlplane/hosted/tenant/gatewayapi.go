// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// +kubebuilder:rbac:groups=networking.k8s.io,resources=ingresses,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=tlsroutes,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=gateways,verbs=get;list;watch

// tlsRoutes is the kind that publishes tenants by name. It is in v1 since Gateway API 1.5.
var tlsRoutes = schema.GroupKind{Group: gatewayv1.GroupName, Kind: "TLSRoute"}

// gatewaysIndex finds the TenantControlPlanes that name a Gateway, by namespace/name.
const gatewaysIndex = "spec.controlPlane.gateway.parentRefs"

// gatewayAPI knows whether the management cluster serves TLSRoutes. They come with
// CRDs that may be installed at any time, so watching them starts when they are seen.
type gatewayAPI struct {
	// watch starts to watch TLSRoutes and Gateways; nil outside of a manager.
	watch func() error

	mu      sync.Mutex
	served  bool
	checked time.Time
}

// usable tells whether TLSRoutes can be applied. As long as they can't, discovery
// is asked every half minute at most, whatever the number of tenants.
func (g *gatewayAPI) usable(mapper meta.RESTMapper, now time.Time) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.served || now.Sub(g.checked) < foreignRetry {
		return g.served, nil
	}
	_, err := mapper.RESTMapping(tlsRoutes, gatewayv1.GroupVersion.Version)
	switch {
	case meta.IsNoMatchError(err):
		g.checked = now
		return false, nil
	case err != nil:
		return false, fmt.Errorf("asking whether the management cluster has TLSRoutes: %w", err)
	}
	if g.watch != nil {
		if err := g.watch(); err != nil {
			return false, fmt.Errorf("watching TLSRoutes: %w", err)
		}
	}
	g.served = true
	return true, nil
}

// watchRoutes prepares what gatewayAPI starts: routes of ours, and the Gateways
// that tenants name.
func (r *Reconciler) watchRoutes(ctx context.Context, mgr ctrl.Manager, c controller.Controller) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &kamajiv1alpha1.TenantControlPlane{}, gatewaysIndex, func(o client.Object) []string {
		tenant, ok := o.(*kamajiv1alpha1.TenantControlPlane)
		if !ok || tenant.Spec.ControlPlane.Gateway == nil {
			return nil
		}
		var out []string
		for _, parent := range tenant.Spec.ControlPlane.Gateway.GatewayParentRefs {
			out = append(out, gatewayOf(tenant, parent).String())
		}
		return out
	})
	if err != nil {
		return fmt.Errorf("indexing the Gateways of tenants: %w", err)
	}
	r.gatewayAPI.watch = func() error {
		owner := handler.TypedEnqueueRequestForOwner[*gatewayv1.TLSRoute](mgr.GetScheme(), mgr.GetRESTMapper(), &kamajiv1alpha1.TenantControlPlane{}, handler.OnlyControllerOwner())
		if err := c.Watch(source.Kind(mgr.GetCache(), &gatewayv1.TLSRoute{}, owner)); err != nil {
			return err
		}
		users := handler.TypedEnqueueRequestsFromMapFunc(r.tenantsOfGateway)
		return c.Watch(source.Kind(mgr.GetCache(), &gatewayv1.Gateway{}, users, predicate.TypedResourceVersionChangedPredicate[*gatewayv1.Gateway]{}))
	}
	return nil
}

func (r *Reconciler) tenantsOfGateway(ctx context.Context, gateway *gatewayv1.Gateway) []reconcile.Request {
	var tenants kamajiv1alpha1.TenantControlPlaneList
	if err := r.Client.List(ctx, &tenants, client.MatchingFields{gatewaysIndex: client.ObjectKeyFromObject(gateway).String()}); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "listing the tenants of a Gateway", "gateway", client.ObjectKeyFromObject(gateway))
		return nil
	}
	return requests(tenants.Items)
}

// gatewayOf is where the parent of a tenant's route lives.
func gatewayOf(tenant *kamajiv1alpha1.TenantControlPlane, parent gatewayv1.ParentReference) client.ObjectKey {
	key := client.ObjectKey{Namespace: tenant.Namespace, Name: string(parent.Name)}
	if parent.Namespace != nil {
		key.Namespace = string(*parent.Namespace)
	}
	return key
}
