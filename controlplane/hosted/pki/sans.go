// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
)

// SANs are the names and addresses in the serving certificate, sorted and unique.
type SANs struct {
	// DNSNames are host names.
	DNSNames []string
	// IPs are addresses.
	IPs []net.IP
}

// ServingSANs is under which names and addresses the API server is reached: by
// customers and nodes, in the management cluster, by its own pod, and as the
// Service default/kubernetes in the tenant. Errors name the field to change.
func ServingSANs(tenant *kamajiv1alpha1.TenantControlPlane, e endpoint.Endpoint) (SANs, error) {
	service := tenant.Name + "." + tenant.Namespace
	names := []string{
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + tenant.ClusterDomain(),
		"localhost", tenant.Name, service, service + ".svc", service + ".svc.cluster.local",
	}
	names = append(names, e.Names...)
	addresses := append([]string{"127.0.0.1", "::1"}, e.Addresses...)
	for _, cidr := range tenant.ServiceCIDRs() {
		first, err := firstAddress(cidr)
		if err != nil {
			return SANs{}, fmt.Errorf("spec.networkProfile.serviceCidrs: %w", err)
		}
		addresses = append(addresses, first)
	}
	for _, san := range tenant.Spec.NetworkProfile.CertSANs {
		if _, err := netip.ParseAddr(san); err == nil {
			addresses = append(addresses, san)
			continue
		}
		if len(validation.IsDNS1123Subdomain(san)) != 0 && len(validation.IsWildcardDNS1123Subdomain(san)) != 0 {
			return SANs{}, fmt.Errorf("spec.networkProfile.certSANs: %q is neither an IP address nor a host name", san)
		}
		names = append(names, san)
	}
	out := SANs{DNSNames: sorted(names)}
	for i, address := range addresses {
		ip, err := netip.ParseAddr(address)
		if err != nil {
			return SANs{}, fmt.Errorf("address of the API server: %w", err)
		}
		addresses[i] = ip.Unmap().String()
	}
	for _, address := range sorted(addresses) {
		out.IPs = append(out.IPs, net.ParseIP(address))
	}
	return out, nil
}

// firstAddress is the address that the Service default/kubernetes gets.
func firstAddress(cidr string) (string, error) {
	prefix, err := netip.ParsePrefix(strings.TrimSpace(cidr))
	if err != nil {
		return "", err
	}
	return prefix.Masked().Addr().Next().String(), nil
}
