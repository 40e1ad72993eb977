// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"math/big"
	"net/netip"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// tenantPorts is the range from which the gateway's tenants get their ports.
func tenantPorts(g *v1alpha2.KamajiGateway) v1alpha2.PortRange {
	if g.Spec.TenantPorts != nil {
		return g.Spec.TenantPorts.PortRange
	}
	return v1alpha2.PortRange{First: DefaultFirstTenantPort, Last: DefaultLastTenantPort}
}

// tenantAddress is the private address of the tenant that has port, or "" on a gateway without privatePrefix. It follows from the port,
// so the lease of the port is that of the address, too. A port that lies outside tenantPorts, because the range was larger once,
// may have no address; its tenant is reached by the port alone.
func tenantAddress(g *v1alpha2.KamajiGateway, port int32) string {
	prefix, err := netip.ParsePrefix(g.Spec.PrivatePrefix)
	ports := tenantPorts(g)
	if err != nil || port < ports.First {
		return ""
	}
	// The first address of a network is not used: some equipment takes it for the network itself.
	place := big.NewInt(int64(port - ports.First + 1))
	sum := place.Add(place, new(big.Int).SetBytes(prefix.Masked().Addr().AsSlice()))
	address, ok := netip.AddrFromSlice(sum.FillBytes(make([]byte, prefix.Addr().BitLen()/8)))
	if !ok || !prefix.Contains(address) || !prefix.Contains(address.Next()) {
		return ""
	}
	return address.String()
}

// addressesValid returns a Wait error when an older one of all gateways has an address of g: two data planes can't listen on it.
func addressesValid(g *v1alpha2.KamajiGateway, all []v1alpha2.KamajiGateway) error {
	for i := range all {
		other := &all[i]
		older := other.CreationTimestamp.Before(&g.CreationTimestamp) || (other.CreationTimestamp.Equal(&g.CreationTimestamp) && other.Name < g.Name)
		if other.Name == g.Name || !older {
			continue
		}
		if address := sharedAddress(g, other); address != "" {
			return phase.Wait(v1alpha2.GatewayAddressConflictReason, "address %s belongs to KamajiGateway %s; use other addresses or remove that gateway", address, other.Name)
		}
	}
	return nil
}

// sharedAddress is an address or a network that both gateways want, or "".
func sharedAddress(a, b *v1alpha2.KamajiGateway) string {
	for _, mine := range networks(a) {
		for _, theirs := range networks(b) {
			if !mine.Overlaps(theirs) {
				continue
			}
			if mine.IsSingleIP() {
				return mine.Addr().String()
			}
			return mine.String()
		}
	}
	return ""
}

// networks are all addresses of a gateway.
func networks(g *v1alpha2.KamajiGateway) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range []string{g.Spec.PublicAddress, g.Spec.PrivateAddress} {
		// The schema lets nothing else through.
		if address, err := netip.ParseAddr(text); err == nil {
			all = append(all, netip.PrefixFrom(address, address.BitLen()))
		}
	}
	if prefix, err := netip.ParsePrefix(g.Spec.PrivatePrefix); err == nil {
		all = append(all, prefix.Masked())
	}
	return all
}

// published is where a tenant with these names and this port is reached.
func published(g *v1alpha2.KamajiGateway, spec *kamajiv1alpha1.KamajiGatewaySpec, own string, additional []string, port int32) *kamajiv1alpha1.KamajiGatewayStatus {
	status := &kamajiv1alpha1.KamajiGatewayStatus{
		Name: g.Name, Hostname: own, AdditionalHostnames: additional,
		PublicAddress: g.Spec.PublicAddress, PrivateAddress: g.Spec.PrivateAddress,
		Port: g.Spec.Port, TenantPort: port, TenantAddress: tenantAddress(g, port),
	}
	if spec.Exposure == kamajiv1alpha1.GatewayExposurePrivate {
		status.PublicAddress, status.AdditionalHostnames = "", nil
	}
	return status
}
