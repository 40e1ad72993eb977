// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// reportPublished fills the status of Ingress and TLSRoutes, from the objects as
// they were applied. Access points are found by the step that reads the Gateways.
func reportPublished(s *scope, objects []client.Object) {
	status := &s.tenant.Status
	status.Kubernetes.Ingress = nil
	s.routes = nil
	for _, object := range objects {
		switch o := object.(type) {
		case *networkingv1.Ingress:
			status.Kubernetes.Ingress = &kamajiv1alpha1.KubernetesIngressStatus{IngressStatus: *o.Status.DeepCopy(), Name: o.Name, Namespace: o.Namespace}
		case *gatewayv1.TLSRoute:
			s.routes = append(s.routes, o)
			have := s.routeStatus(o)
			if *have == nil {
				*have = &kamajiv1alpha1.KubernetesGatewayStatus{}
			}
			(*have).RouteRef.Name = o.Name
			(*have).Parents = slices.Clone(o.Status.Parents)
			if (*have).Parents == nil {
				// The field is required.
				(*have).Parents = []gatewayv1.RouteParentStatus{}
			}
		}
	}
	if len(s.routes) < 2 {
		status.Addons.Konnectivity.Gateway = nil
	}
	if len(s.routes) == 0 {
		status.Kubernetes.Gateway = nil
	}
}

// routeStatus is where the status of a route of ours is kept.
func (s *scope) routeStatus(route *gatewayv1.TLSRoute) **kamajiv1alpha1.KubernetesGatewayStatus {
	if route.Name == desired.Name(s.tenant, desired.KonnectivityRoute) {
		return &s.tenant.Status.Addons.Konnectivity.Gateway
	}
	return &s.tenant.Status.Kubernetes.Gateway
}

// routed says whether clients are led to the tenant as asked for. Only TLSRoutes
// have an answer to wait for: many ingress controllers report nothing, and a
// KamajiGateway was waited for when the address was.
func (r *Reconciler) routed(ctx context.Context, s *scope) error {
	for _, route := range s.routes {
		points, err := r.follow(ctx, s, route)
		have := *s.routeStatus(route)
		if !reflect.DeepEqual(have.AccessPoints, points) {
			have.AccessPoints = points
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// follow goes from a route to the Gateways it names: they must have accepted it,
// with a listener that passes TLS through on the port that clients were told.
func (r *Reconciler) follow(ctx context.Context, s *scope, route *gatewayv1.TLSRoute) ([]kamajiv1alpha1.GatewayAccessPoint, error) {
	port := s.endpoint.Client.Port
	if route.Name != s.tenant.Name {
		port = s.endpoint.Tunnel.Port
	}
	var points []kamajiv1alpha1.GatewayAccessPoint
	for _, parent := range route.Spec.ParentRefs {
		if *parent.Kind != "Gateway" || *parent.Group != gatewayv1.GroupName {
			// Listeners of other kinds can't be read here; their verdict counts.
			if err := accepted(route, parent); err != nil {
				return points, err
			}
			continue
		}
		key := gatewayOf(s.tenant, parent)
		gateway := &gatewayv1.Gateway{}
		err := r.Client.Get(ctx, key, gateway)
		switch {
		case apierrors.IsNotFound(err):
			return points, phase.Wait(kamajiv1alpha1.RoutePendingReason, "there is no Gateway %s: create it, or name another in spec.controlPlane.gateway.parentRefs", key)
		case err != nil:
			return points, fmt.Errorf("reading Gateway %s: %w", key, err)
		}
		if err := listens(gateway, parent, port); err != nil {
			return points, err
		}
		if err := accepted(route, parent); err != nil {
			return points, err
		}
		points = append(points, accessPoints(gateway, route, port)...)
	}
	return points, nil
}

// listens checks the listeners of a Gateway that a parent reference selects.
func listens(gateway *gatewayv1.Gateway, parent gatewayv1.ParentReference, port int32) error {
	key := client.ObjectKeyFromObject(gateway)
	var ports []int32
	for _, l := range gateway.Spec.Listeners {
		switch {
		case parent.SectionName != nil && l.Name != *parent.SectionName, parent.Port != nil && l.Port != *parent.Port, l.Protocol != gatewayv1.TLSProtocolType:
			continue
		case l.TLS != nil && ptr.Deref(l.TLS.Mode, gatewayv1.TLSModeTerminate) == gatewayv1.TLSModePassthrough && l.Port == port:
			return nil
		case l.TLS == nil || ptr.Deref(l.TLS.Mode, gatewayv1.TLSModeTerminate) != gatewayv1.TLSModePassthrough:
			return phase.Wait(kamajiv1alpha1.RouteRejectedReason,
				"listener %s of Gateway %s terminates TLS, so client certificates would not reach the API server: set its tls.mode to Passthrough", l.Name, key)
		}
		ports = append(ports, l.Port)
	}
	if len(ports) == 0 {
		return phase.Wait(kamajiv1alpha1.RouteRejectedReason, "Gateway %s has no listener of protocol TLS%s: add it", key, selected(parent))
	}
	return phase.Wait(kamajiv1alpha1.RouteRejectedReason,
		"Gateway %s listens on port %v, but clients are told %d: let the port of the listener, of spec.controlPlane.gateway.parentRefs or of spec.networkProfile be the same", key, ports, port)
}

func selected(parent gatewayv1.ParentReference) string {
	out := ""
	if parent.SectionName != nil {
		out += " with the name " + string(*parent.SectionName)
	}
	if parent.Port != nil {
		out += fmt.Sprintf(" on port %d", *parent.Port)
	}
	return out
}

// accepted is the verdict of the Gateway's controller about one parent of a route.
func accepted(route *gatewayv1.TLSRoute, parent gatewayv1.ParentReference) error {
	for _, status := range route.Status.Parents {
		if !sameParent(status.ParentRef, parent, route.Namespace) {
			continue
		}
		for _, kind := range []gatewayv1.RouteConditionType{gatewayv1.RouteConditionAccepted, gatewayv1.RouteConditionResolvedRefs} {
			if c := meta.FindStatusCondition(status.Conditions, string(kind)); c != nil && c.Status == metav1.ConditionFalse {
				return phase.Wait(kamajiv1alpha1.RouteRejectedReason, "TLSRoute %s is not %s by %s: %s: %s", route.Name, kind, status.ControllerName, c.Reason, c.Message)
			}
		}
		if meta.IsStatusConditionTrue(status.Conditions, string(gatewayv1.RouteConditionAccepted)) {
			return nil
		}
	}
	return phase.Wait(kamajiv1alpha1.RoutePendingReason,
		"waits for the controller of %s %s to accept TLSRoute %s; one that never does has no support for TLSRoute v1", *parent.Kind, parent.Name, route.Name)
}

func sameParent(a, b gatewayv1.ParentReference, namespace string) bool {
	here := gatewayv1.Namespace(namespace)
	return a.Name == b.Name && ptr.Deref(a.Namespace, here) == ptr.Deref(b.Namespace, here) &&
		ptr.Deref(a.SectionName, "") == ptr.Deref(b.SectionName, "") && ptr.Deref(a.Port, 0) == ptr.Deref(b.Port, 0)
}

// accessPoints are the name that leads to the route, and the addresses of the
// Gateway, which lead there only with that name.
func accessPoints(gateway *gatewayv1.Gateway, route *gatewayv1.TLSRoute, port int32) []kamajiv1alpha1.GatewayAccessPoint {
	var out []kamajiv1alpha1.GatewayAccessPoint
	for _, name := range route.Spec.Hostnames {
		out = append(out, kamajiv1alpha1.GatewayAccessPoint{
			Type: ptr.To(gatewayv1.HostnameAddressType), Value: string(name), Port: port, URLs: []string{fmt.Sprintf("https://%s:%d", name, port)},
		})
	}
	for _, address := range gateway.Status.Addresses {
		out = append(out, kamajiv1alpha1.GatewayAccessPoint{Type: address.Type, Value: address.Value, Port: port})
	}
	return out
}
