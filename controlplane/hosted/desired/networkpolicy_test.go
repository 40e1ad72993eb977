// SPDX-License-Identifier: Apache-2.0

package desired_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
)

// reach asks a policy the way a network plugin does: may this connection be made?
type reach struct {
	out  bool
	peer string
	port int32
	// namespace of the peer, for connections that come in.
	namespace string
}

func policyOf(t *testing.T, in desired.Input) *networkingv1.NetworkPolicy {
	t.Helper()
	for _, o := range desired.Workload(in) {
		if p, ok := o.(*networkingv1.NetworkPolicy); ok {
			return p
		}
	}
	return nil
}

func allows(p *networkingv1.NetworkPolicy, r reach) bool {
	type rule struct {
		ports []networkingv1.NetworkPolicyPort
		peers []networkingv1.NetworkPolicyPeer
	}
	var rules []rule
	for _, i := range p.Spec.Ingress {
		rules = append(rules, rule{i.Ports, i.From})
	}
	if r.out {
		rules = nil
		for _, e := range p.Spec.Egress {
			rules = append(rules, rule{e.Ports, e.To})
		}
	}
	for _, rule := range rules {
		port := len(rule.ports) == 0
		for _, p := range rule.ports {
			port = port || p.Port.IntVal == r.port && *p.Protocol == corev1.ProtocolTCP
		}
		peer := len(rule.peers) == 0
		for _, from := range rule.peers {
			peer = peer || from.IPBlock != nil && within(from.IPBlock, r.peer) ||
				from.NamespaceSelector != nil && from.NamespaceSelector.MatchLabels[corev1.LabelMetadataName] == r.namespace
		}
		if port && peer {
			return true
		}
	}
	return false
}

func within(block *networkingv1.IPBlock, address string) bool {
	a := netip.MustParseAddr(address)
	for _, except := range block.Except {
		if netip.MustParsePrefix(except).Contains(a) {
			return false
		}
	}
	return netip.MustParsePrefix(block.CIDR).Contains(a)
}

func TestNetworkPolicyLetsThroughWhatIsNeeded(t *testing.T) {
	for name, c := range map[string]struct {
		in   desired.Input
		want map[reach]bool
	}{
		"etcd": {throughGateway(), map[reach]bool{
			{peer: "192.0.2.1", port: 6443}:                            true,
			{peer: "192.0.2.1", port: 8132}:                            true,
			{peer: "10.244.0.9", port: 6443}:                           true,
			{peer: "10.244.0.9", port: 10257, namespace: "other"}:      false,
			{peer: "10.244.0.9", port: 10259, namespace: "other"}:      false,
			{peer: "10.244.0.9", port: 8134, namespace: "other"}:       false,
			{peer: "10.244.0.9", port: 10257, namespace: "monitoring"}: true,
			{peer: "10.244.0.9", port: 8134, namespace: "monitoring"}:  false,
			{out: true, peer: "10.244.0.9", port: 2379}:                true,
			{out: true, peer: "10.244.0.9", port: 53}:                  true,
			{out: true, peer: "10.244.0.9", port: 443}:                 false,
			{out: true, peer: "10.244.0.9", port: 10257}:               false,
			{out: true, peer: "172.18.0.2", port: 6443}:                false,
			{out: true, peer: "172.18.0.3", port: 6443}:                true,
			{out: true, peer: "169.254.169.254", port: 80}:             false,
			{out: true, peer: "fd00:ec2::254", port: 80}:               false,
			{out: true, peer: "fd00:10::1", port: 443}:                 false,
			{out: true, peer: "203.0.113.4", port: 443}:                true,
			{out: true, peer: "2001:db8::1", port: 443}:                true,
		}},
		"kine": {throughKine(), map[reach]bool{
			{peer: "10.244.0.9", port: 2381, namespace: "other"}:      false,
			{peer: "10.244.0.9", port: 2381, namespace: "monitoring"}: true,
		}},
		"overrides and additions": {everything(), map[reach]bool{
			{peer: "192.0.2.1", port: 9090}: true,
			{peer: "192.0.2.1", port: 514}:  false,
			{peer: "192.0.2.1", port: 7443}: true,
			{peer: "192.0.2.1", port: 9132}: true,
			{peer: "192.0.2.1", port: 6443}: false,
		}},
	} {
		policy := policyOf(t, c.in)
		if policy == nil {
			t.Fatalf("%s: no policy", name)
		}
		for r, want := range c.want {
			if got := allows(policy, r); got != want {
				t.Errorf("%s: %+v: %t, want %t", name, r, got, want)
			}
		}
	}
}

// Every port that the Service leads to must be open, or a client would wait for an answer for ever.
func TestNetworkPolicyOpensTheService(t *testing.T) {
	in := everything()
	in.Tenant.Spec.ControlPlane.Service.AdditionalPorts = append(in.Tenant.Spec.ControlPlane.Service.AdditionalPorts, kamajiv1alpha1.AdditionalPort{Name: "same", Port: 9443})
	policy := policyOf(t, in)
	for _, port := range desired.Service(in.Tenant).Spec.Ports {
		target := port.TargetPort
		if target.String() == "0" {
			target.IntVal = port.Port
		}
		open := false
		for _, p := range policy.Spec.Ingress[0].Ports {
			open = open || *p.Port == target
		}
		if !open {
			t.Errorf("port %s of the Service leads to %s, which is closed", port.Name, target.String())
		}
	}
}

func TestNetworkPolicyOfClosedFamilies(t *testing.T) {
	in := throughGateway()
	in.Network.Closed = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	policy := policyOf(t, in)
	for r, want := range map[reach]bool{
		{out: true, peer: "203.0.113.4", port: 443}: false, {out: true, peer: "203.0.113.4", port: 2379}: true, {out: true, peer: "2001:db8::1", port: 443}: true,
	} {
		if got := allows(policy, r); got != want {
			t.Errorf("without IPv4: %+v: %t, want %t", r, got, want)
		}
	}
	in.Network.Closed = append(in.Network.Closed, netip.MustParsePrefix("::/0"))
	if got := len(policyOf(t, in).Spec.Egress); got != 2 {
		t.Errorf("without any address there are %d rules, want those of name servers and datastore", got)
	}
	in.Network.Scrapers = nil
	if got := len(policyOf(t, in).Spec.Ingress); got != 1 {
		t.Errorf("without monitoring there are %d rules for what comes in, want 1", got)
	}
	in.Network = nil
	if diff := cmp.Diff((*networkingv1.NetworkPolicy)(nil), policyOf(t, in)); diff != "" {
		t.Errorf("there is a policy although there shall be none:\n%s", diff)
	}
}
