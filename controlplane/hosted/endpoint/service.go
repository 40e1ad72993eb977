// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// throughService is a tenant whose clients connect to its Service.
func throughService(tenant *kamajiv1alpha1.TenantControlPlane, service *corev1.Service) (Endpoint, error) {
	host, err := serviceHost(tenant, service)
	if err != nil {
		return Endpoint{}, err
	}
	published := Server{Host: host, Port: tenant.Port()}
	e := Endpoint{
		Service: inService(tenant), Client: published, Worker: published, InCluster: published, Published: published,
		Addresses: clusterIPs(service),
	}
	if advertised := tenant.Spec.NetworkProfile.AdvertiseAddress; advertised != "" {
		e.Client.Host, e.Worker.Host, e.InCluster.Host = advertised, advertised, advertised
		e.verify(advertised)
	}
	e.verify(host)
	e.verify(balanced(service)...)
	if !isIP(e.InCluster.Host) {
		return Endpoint{}, phase.Fatal(kamajiv1alpha1.UnsupportedExposureReason,
			"the API server is published as %s, a host name, and pods of the tenant need an IP address: set spec.networkProfile.advertiseAddress", host)
	}
	if err := familyFits(tenant, e.InCluster.Host); err != nil {
		return Endpoint{}, err
	}
	if port := tenant.KonnectivityPort(); port != 0 {
		e.Tunnel = Server{Host: e.Worker.Host, Port: port}
	}
	return e, nil
}

// serviceHost is the address that the spec gives the tenant, or else the one that
// its Service has at present.
func serviceHost(tenant *kamajiv1alpha1.TenantControlPlane, service *corev1.Service) (string, error) {
	if address := tenant.Spec.NetworkProfile.Address; address != "" {
		return address, nil
	}
	pending := phase.Wait(kamajiv1alpha1.AddressPendingReason, "waits for Service %s/%s to get an address", tenant.Namespace, tenant.Name)
	if service == nil {
		return "", pending
	}
	switch tenant.Spec.ControlPlane.Service.ServiceType {
	case kamajiv1alpha1.ServiceTypeLoadBalancer:
		found := balanced(service)
		if len(found) == 0 {
			return "", phase.Wait(kamajiv1alpha1.AddressPendingReason,
				"waits for a load balancer to give Service %s/%s an address; its events tell what is wrong, none means that nothing implements load balancers here",
				tenant.Namespace, tenant.Name)
		}
		return preferred(tenant, found), nil
	case kamajiv1alpha1.ServiceTypeNodePort:
		return "", phase.Fatal(kamajiv1alpha1.UnsupportedExposureReason,
			"serviceType NodePort needs spec.networkProfile.address, the address of a node or of what forwards to the nodes")
	default:
		found := clusterIPs(service)
		if len(found) == 0 {
			return "", pending
		}
		return preferred(tenant, found), nil
	}
}

// balanced are the addresses and host names of the load balancer, addresses first.
func balanced(service *corev1.Service) []string {
	if service == nil {
		return nil
	}
	var addresses, names []string
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		switch {
		case ingress.IP != "":
			addresses = append(addresses, ingress.IP)
		case ingress.Hostname != "":
			names = append(names, ingress.Hostname)
		}
	}
	return append(addresses, names...)
}

// preferred is the first address of the family that the tenant's own Services
// have in the first place, or the first of all.
func preferred(tenant *kamajiv1alpha1.TenantControlPlane, found []string) string {
	for _, candidate := range found {
		if address, err := netip.ParseAddr(candidate); err == nil && address.Unmap().Is4() == primaryIs4(tenant) {
			return candidate
		}
	}
	return found[0]
}

// familyFits says whether pods of the tenant can be led to the address: the Service
// default/kubernetes has only the first family, and kube-proxy does not translate.
func familyFits(tenant *kamajiv1alpha1.TenantControlPlane, host string) error {
	address, err := netip.ParseAddr(host)
	if err != nil || address.Unmap().Is4() == primaryIs4(tenant) {
		return nil
	}
	wanted := "an IPv6"
	if primaryIs4(tenant) {
		wanted = "an IPv4"
	}
	return phase.Fatal(kamajiv1alpha1.UnsupportedExposureReason,
		"the API server is at %s, but the first range in spec.networkProfile.serviceCidrs is of the other IP family, so pods could not reach it: "+
			"set spec.networkProfile.advertiseAddress to %s address, or put the other range first", host, wanted)
}

// primaryIs4 tells the family of the tenant's Services; bad ranges are somebody else's finding.
func primaryIs4(tenant *kamajiv1alpha1.TenantControlPlane) bool {
	first, err := netip.ParsePrefix(strings.TrimSpace(tenant.ServiceCIDRs()[0]))
	return err != nil || first.Addr().Unmap().Is4()
}
