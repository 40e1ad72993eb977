// SPDX-License-Identifier: Apache-2.0

package desired

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
)

// KonnectivityRoute is the TLSRoute of the konnectivity server, without the
// tenant's name and a dash. That of the API server has the tenant's own name.
const KonnectivityRoute = "konnectivity"

// KonnectivityListener is the name that a Gateway's listener for konnectivity must have.
const KonnectivityListener gatewayv1.SectionName = "konnectivity-server"

// Published are the objects that lead clients to the Service by host name: one
// Ingress, or TLSRoutes, or nothing. They are part of Workload. Resolving the
// endpoint checks the names.
func Published(tenant *kamajiv1alpha1.TenantControlPlane) []client.Object {
	switch spec := &tenant.Spec.ControlPlane; {
	case spec.KamajiGateway != nil && spec.Gateway == nil:
		return nil
	case spec.Ingress != nil:
		return []client.Object{ingress(tenant)}
	case spec.Gateway != nil:
		out := []client.Object{route(tenant, tenant.Name, spec.Gateway.GatewayParentRefs, tenant.Port())}
		// Agents of a tenant on a KamajiGateway use that.
		if port := tenant.KonnectivityPort(); port != 0 && spec.KamajiGateway == nil {
			parents := make([]gatewayv1.ParentReference, len(spec.Gateway.GatewayParentRefs))
			for i, parent := range spec.Gateway.GatewayParentRefs {
				parent.SectionName, parent.Port = ptr.To(KonnectivityListener), ptr.To(port)
				parents[i] = parent
			}
			out = append(out, route(tenant, Name(tenant, KonnectivityRoute), parents, port))
		}
		return out
	default:
		return nil
	}
}

// ingress has no TLS section: its controller must not terminate. How it is told to
// pass TLS through differs between controllers, by annotations of the user.
func ingress(tenant *kamajiv1alpha1.TenantControlPlane) *networkingv1.Ingress {
	spec := tenant.Spec.ControlPlane.Ingress
	meta := objectMeta(tenant, tenant.Name, "ingress")
	meta.Labels = with(spec.AdditionalMetadata.Labels, meta.Labels)
	meta.Annotations = with(spec.AdditionalMetadata.Annotations)
	host := spec.Hostname
	if named, err := endpoint.HostPort(spec.Hostname, tenant.Port()); err == nil {
		host = named.Host
	}
	out := &networkingv1.Ingress{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "Ingress"},
		ObjectMeta: meta,
		Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{
			Host: host,
			IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
				Path: "/", PathType: ptr.To(networkingv1.PathTypePrefix),
				Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
					Name: tenant.Name, Port: networkingv1.ServiceBackendPort{Number: tenant.Port()},
				}},
			}}}},
		}}},
	}
	if spec.IngressClassName != "" {
		out.Spec.IngressClassName = ptr.To(spec.IngressClassName)
	}
	return out
}

// route leads connections with the tenant's name from listeners of the parents to
// one port of the Service. All values that the API server would fill in are given,
// so that what it stores is what was sent.
func route(tenant *kamajiv1alpha1.TenantControlPlane, name string, parents []gatewayv1.ParentReference, port gatewayv1.PortNumber) *gatewayv1.TLSRoute {
	spec := tenant.Spec.ControlPlane.Gateway
	meta := objectMeta(tenant, name, "gateway")
	meta.Labels = with(spec.AdditionalMetadata.Labels, meta.Labels)
	meta.Annotations = with(spec.AdditionalMetadata.Annotations)
	references := make([]gatewayv1.ParentReference, len(parents))
	for i, parent := range parents {
		if parent.Group == nil {
			parent.Group = ptr.To(gatewayv1.Group(gatewayv1.GroupName))
		}
		if parent.Kind == nil {
			parent.Kind = ptr.To(gatewayv1.Kind("Gateway"))
		}
		references[i] = parent
	}
	return &gatewayv1.TLSRoute{
		TypeMeta:   metav1.TypeMeta{APIVersion: gatewayv1.GroupVersion.String(), Kind: "TLSRoute"},
		ObjectMeta: meta,
		Spec: gatewayv1.TLSRouteSpec{
			CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: references},
			Hostnames:       []gatewayv1.Hostname{spec.Hostname},
			Rules: []gatewayv1.TLSRouteRule{{BackendRefs: []gatewayv1.BackendRef{{
				BackendObjectReference: gatewayv1.BackendObjectReference{
					Group: ptr.To(gatewayv1.Group("")), Kind: ptr.To(gatewayv1.Kind("Service")),
					Name: gatewayv1.ObjectName(tenant.Name), Port: ptr.To(port),
				},
				Weight: ptr.To[int32](1),
			}}}},
		},
	}
}
