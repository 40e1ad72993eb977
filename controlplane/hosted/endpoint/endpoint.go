// SPDX-License-Identifier: Apache-2.0

// Package endpoint decides where a tenant's API server is reached, by whom.
//
// It is pure: it gets the TenantControlPlane with the gateway's status and the
// live Service, and returns addresses or why there are none yet.
package endpoint

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// Server is an address of the API server as a kubeconfig has it.
type Server struct {
	// Host is a DNS name or an IP address without brackets.
	Host string
	// Port is a TCP port.
	Port int32
	// ServerName, when set, is the name that the client sends and verifies
	// instead of Host (tls-server-name of a kubeconfig).
	ServerName string
}

// URL is the address with the scheme https.
func (s Server) URL() string { return "https://" + s.HostPort() }

// HostPort is host:port, with brackets around an IPv6 address.
func (s Server) HostPort() string {
	return net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))
}

// Endpoint is all the ways in which a tenant's API server is reached.
type Endpoint struct {
	// Service is for clients in the management cluster: the DNS name of the Service.
	Service Server
	// Client is for people and tools outside.
	Client Server
	// Worker is for kubelets and kube-proxy.
	Worker Server
	// Tunnel is for konnectivity agents. Its port is 0 in a tenant without konnectivity.
	Tunnel Server
	// InCluster backs the Service default/kubernetes in the tenant. Host is an IP
	// address, and connections to it carry no server name.
	InCluster Server
	// Published is status.controlPlaneEndpoint and what Cluster API is told.
	Published Server
	// Gateway tells whether the addresses belong to a KamajiGateway, where the
	// konnectivity server shares them and is selected by ALPN.
	Gateway bool
	// Names and Addresses must be in the serving certificate, besides those of the
	// Service and of localhost. Sorted by meaning; may hold duplicates.
	Names     []string
	Addresses []string
}

// Resolve decides where the tenant is reached, now: an address that has changed
// meanwhile is returned like any other. The service is the live Service of the
// tenant; it is not used when a KamajiGateway publishes the tenant and nil then
// is fine. Errors are phase.Wait and phase.Fatal.
func Resolve(tenant *kamajiv1alpha1.TenantControlPlane, service *corev1.Service) (Endpoint, error) {
	spec := &tenant.Spec.ControlPlane
	switch {
	case spec.KamajiGateway != nil:
		return throughGateway(tenant, service)
	case spec.Ingress != nil:
		return throughIngress(tenant, service)
	case spec.Gateway != nil:
		return throughRoute(tenant, service)
	default:
		return throughService(tenant, service)
	}
}

func throughGateway(tenant *kamajiv1alpha1.TenantControlPlane, service *corev1.Service) (Endpoint, error) {
	want, got := tenant.Spec.ControlPlane.KamajiGateway, tenant.Status.KamajiGateway
	switch {
	case got == nil, got.Name != want.Name, want.Hostname != "" && want.Hostname != got.Hostname:
		return Endpoint{}, phase.Wait(kamajiv1alpha1.GatewayPendingReason,
			"waits for KamajiGateway %s to allocate host name, addresses and port", want.Name)
	case got.Hostname == "" || got.Port == 0 || got.PrivateAddress == "" || got.TenantPort == 0:
		return Endpoint{}, phase.Wait(kamajiv1alpha1.GatewayPendingReason,
			"KamajiGateway %s has not yet allocated all of hostname, port, private address and tenant port", want.Name)
	}
	named := Server{Host: got.Hostname, Port: got.Port}
	private := Server{Host: got.PrivateAddress, Port: got.TenantPort}
	if got.TenantAddress != "" {
		private = Server{Host: got.TenantAddress, Port: got.Port}
	}
	e := Endpoint{
		Service: inService(tenant),
		// No DNS is needed on the customer's side: the address is in the
		// kubeconfig, and so is the name that selects the tenant.
		Client:    Server{Host: got.PrivateAddress, Port: got.Port, ServerName: got.Hostname},
		Worker:    named,
		InCluster: private,
		Published: named,
		Gateway:   true,
		Names:     append([]string{got.Hostname}, got.AdditionalHostnames...),
		Addresses: []string{got.PrivateAddress},
	}
	if got.PublicAddress != "" {
		e.Client.Host = got.PublicAddress
		e.Addresses = append(e.Addresses, got.PublicAddress)
	}
	if got.TenantAddress != "" {
		// The port on the shared address leads here, too.
		e.Addresses = append(e.Addresses, got.TenantAddress)
	}
	if want.EffectiveWorkerEndpoint() == kamajiv1alpha1.WorkerEndpointTenantPort {
		e.Worker = private
	}
	if tenant.KonnectivityPort() != 0 {
		e.Tunnel = e.Worker
	}
	e.Addresses = append(e.Addresses, clusterIPs(service)...)
	if tenant.Spec.ControlPlane.Gateway == nil {
		return e, nil
	}
	// Customers come by a Gateway of the Gateway API. It can't serve nodes, whose pods send no host name.
	customers, err := byRoute(tenant)
	if err != nil {
		return Endpoint{}, err
	}
	e.Client = customers
	e.verify(customers.Host)
	return e, nil
}

func inService(tenant *kamajiv1alpha1.TenantControlPlane) Server {
	return Server{Host: tenant.Name + "." + tenant.Namespace + ".svc", Port: tenant.Port()}
}

func clusterIPs(service *corev1.Service) []string {
	if service == nil {
		return nil
	}
	var out []string
	for _, ip := range service.Spec.ClusterIPs {
		if _, err := netip.ParseAddr(ip); err == nil {
			out = append(out, ip)
		}
	}
	return out
}

// verify adds names and addresses that clients use, for the serving certificate.
func (e *Endpoint) verify(hosts ...string) {
	for _, host := range hosts {
		switch {
		case isIP(host) && !slices.Contains(e.Addresses, host):
			e.Addresses = append(e.Addresses, host)
		case !isIP(host) && !slices.Contains(e.Names, host):
			e.Names = append(e.Names, host)
		}
	}
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

func nameProblems(host string) []string { return validation.IsDNS1123Subdomain(host) }

func invalid(value, problem string) error { return fmt.Errorf("%q %s", value, problem) }
