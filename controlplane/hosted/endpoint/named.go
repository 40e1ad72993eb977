// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// throughIngress is a tenant behind an ingress controller that passes TLS through.
// The controller tells tenants apart by name, and konnectivity has the same name
// as the API server, so agents go where pods go.
func throughIngress(tenant *kamajiv1alpha1.TenantControlPlane, service *corev1.Service) (Endpoint, error) {
	named, err := HostPort(tenant.Spec.ControlPlane.Ingress.Hostname, tenant.Port())
	if err != nil {
		return Endpoint{}, phase.Fatal(kamajiv1alpha1.UnsupportedExposureReason, "spec.controlPlane.ingress.hostname: %v", err)
	}
	e, err := byName(tenant, service, named)
	if port := tenant.KonnectivityPort(); port != 0 {
		e.Tunnel = Server{Host: e.InCluster.Host, Port: port}
	}
	return e, err
}

// throughRoute is a tenant behind TLSRoutes of the Gateway API. That of
// konnectivity has a listener of its own, with the port of the konnectivity server.
func throughRoute(tenant *kamajiv1alpha1.TenantControlPlane, service *corev1.Service) (Endpoint, error) {
	named, err := byRoute(tenant)
	if err != nil {
		return Endpoint{}, err
	}
	e, err := byName(tenant, service, named)
	if port := tenant.KonnectivityPort(); port != 0 {
		e.Tunnel = Server{Host: named.Host, Port: port}
	}
	return e, err
}

// byRoute is the name and port that lead customers to the TLSRoute of the API server.
func byRoute(tenant *kamajiv1alpha1.TenantControlPlane) (Server, error) {
	spec := tenant.Spec.ControlPlane.Gateway
	switch {
	case spec.Hostname == "":
		return Server{}, phase.Fatal(kamajiv1alpha1.UnsupportedExposureReason,
			"spec.controlPlane.gateway.hostname is empty: set the name under which clients reach the API server")
	case len(nameProblems(string(spec.Hostname))) > 0:
		return Server{}, phase.Fatal(kamajiv1alpha1.UnsupportedExposureReason,
			"spec.controlPlane.gateway.hostname %q must be one host name without a wildcard: kubeconfigs carry it", spec.Hostname)
	case len(spec.GatewayParentRefs) == 0:
		return Server{}, phase.Fatal(kamajiv1alpha1.UnsupportedExposureReason,
			"spec.controlPlane.gateway.parentRefs is empty: name the Gateway that publishes the API server")
	}
	named := Server{Host: string(spec.Hostname), Port: tenant.Port()}
	if port := spec.GatewayParentRefs[0].Port; port != nil {
		named.Port = *port
	}
	return named, nil
}

// byName is a tenant that clients and nodes reach by name. Pods dial the Service
// default/kubernetes, so their connections carry no name that could be routed: they
// are led past the router, to the advertised address or the tenant's own Service.
func byName(tenant *kamajiv1alpha1.TenantControlPlane, service *corev1.Service, named Server) (Endpoint, error) {
	e := Endpoint{
		Service: inService(tenant), Client: named, Worker: named, Published: named,
		InCluster: Server{Host: tenant.Spec.NetworkProfile.AdvertiseAddress, Port: tenant.Port()},
		Addresses: clusterIPs(service),
	}
	e.verify(named.Host)
	e.verify(balanced(service)...)
	if e.InCluster.Host == "" {
		direct, err := serviceHost(tenant, service)
		if phase.IsFatal(err) || err == nil && !isIP(direct) {
			return e, phase.Fatal(kamajiv1alpha1.UnsupportedExposureReason,
				"pods of the tenant send no host name and can't pass the router of %s: set spec.networkProfile.advertiseAddress to an IP address "+
					"where port %d leads to this API server", named.Host, tenant.Port())
		}
		if err != nil {
			return e, err
		}
		e.InCluster.Host = direct
	}
	e.verify(e.InCluster.Host)
	return e, familyFits(tenant, e.InCluster.Host)
}

// HostPort splits a host name that may carry a port, and checks both.
func HostPort(text string, fallback int32) (Server, error) {
	out := Server{Host: text, Port: fallback}
	if host, port, err := net.SplitHostPort(text); err == nil {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 {
			return Server{}, invalid(text, "has no port from 1 to 65535 after the colon")
		}
		out = Server{Host: host, Port: int32(number)} //nolint:gosec // 16 bits
	}
	switch {
	case out.Host == "":
		return Server{}, invalid(text, "must be the name under which clients reach the API server")
	case isIP(out.Host):
		return Server{}, invalid(text, "must be a host name: clients send none for an IP address, so nothing could be routed")
	case len(nameProblems(out.Host)) > 0:
		return Server{}, invalid(text, "is no host name: "+strings.Join(nameProblems(out.Host), "; "))
	}
	return out, nil
}
