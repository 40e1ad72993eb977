// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"cmp"
	"net"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// Network is what a tenant's NetworkPolicy depends on beside the tenant.
type Network struct {
	// Closed are networks that pods of control planes may not connect to: those of the
	// management cluster. Link-local addresses and those of metadata services are
	// closed in any case.
	Closed []netip.Prefix
	// Scrapers selects the namespaces whose pods may read metrics; nil for none.
	Scrapers *metav1.LabelSelector
}

// serving are the managed containers with ports for everybody: who connects has to
// show a certificate or a token. metered are those whose ports only have health and metrics.
var (
	serving = []string{"kube-apiserver", "konnectivity-server"}
	metered = []string{"kube-controller-manager", "kube-scheduler", kineName}
)

// everywhere are all addresses, and what is never one of a service that a control
// plane needs: link-local ones, where clouds keep the credentials of machines, and
// Amazon's for IPv6.
var everywhere = []struct {
	all   netip.Prefix
	never []netip.Prefix
}{
	{netip.MustParsePrefix("0.0.0.0/0"), []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16")}},
	{netip.MustParsePrefix("::/0"), []netip.Prefix{netip.MustParsePrefix("fd00:ec2::254/128"), netip.MustParsePrefix("fe80::/10")}},
}

// networkPolicy closes the pods of a tenant to everything but what they are for.
//
// In: the API server and konnectivity from anywhere, since clients come from
// outside, through gateways, load balancers and host networks; so do clients of
// what the user has added. Metrics only for monitoring. Kubelets need no rule, they
// are on the pod's own node.
//
// Out: webhooks and issuers that the tenant's administrators name by URL are dialled
// by the API server itself, so the management cluster's own addresses are closed.
// A policy sees addresses after Services are resolved and knows no names, so that
// the datastore is let through by its port.
func networkPolicy(in Input, pod *corev1.PodSpec) *networkingv1.NetworkPolicy {
	out := &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "NetworkPolicy"},
		ObjectMeta: objectMeta(in.Tenant, in.Tenant.Name, "network-policy"),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: Selector(in.Tenant)},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		},
	}
	open, metrics := ports(in, pod)
	out.Spec.Ingress = append(out.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{Ports: open})
	if in.Network.Scrapers != nil && len(metrics) > 0 {
		out.Spec.Ingress = append(out.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{
			Ports: metrics, From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: in.Network.Scrapers}},
		})
	}
	out.Spec.Egress = append(out.Spec.Egress, networkingv1.NetworkPolicyEgressRule{Ports: []networkingv1.NetworkPolicyPort{
		policyPort(corev1.ProtocolTCP, intstr.FromInt32(53)), policyPort(corev1.ProtocolUDP, intstr.FromInt32(53)),
	}})
	if stores := storePorts(in.Storage); len(stores) > 0 {
		out.Spec.Egress = append(out.Spec.Egress, networkingv1.NetworkPolicyEgressRule{Ports: stores})
	}
	if outside := outside(in.Network.Closed); len(outside) > 0 {
		out.Spec.Egress = append(out.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: outside})
	}
	return out
}

// ports are those for everybody, and those for monitoring.
func ports(in Input, pod *corev1.PodSpec) (open, metrics []networkingv1.NetworkPolicyPort) {
	for _, c := range slices.Concat(pod.Containers, pod.InitContainers) {
		for _, p := range c.Ports {
			port := policyPort(p.Protocol, intstr.FromInt32(p.ContainerPort))
			if slices.Contains(metered, c.Name) || slices.Contains(serving, c.Name) && p.Name != APIServerPortName && p.Name != konnectivityPort {
				metrics = append(metrics, port)
			} else {
				open = append(open, port)
			}
		}
	}
	for _, extra := range in.Tenant.Spec.ControlPlane.Service.AdditionalPorts {
		target := extra.TargetPort
		if target == (intstr.IntOrString{}) {
			target = intstr.FromInt32(extra.Port)
		}
		open = append(open, policyPort(extra.Protocol, target))
	}
	return tidy(open), tidy(metrics)
}

// storePorts are those of the datastores.
func storePorts(storage Storage) []networkingv1.NetworkPolicyPort {
	endpoints := slices.Clone(storage.Endpoints)
	for _, o := range storage.Overrides {
		endpoints = append(endpoints, o.Endpoints...)
	}
	var out []networkingv1.NetworkPolicyPort
	for _, e := range endpoints {
		// Endpoints have been checked to be host:port.
		if _, text, err := net.SplitHostPort(e); err == nil {
			out = append(out, policyPort(corev1.ProtocolTCP, intstr.Parse(text)))
		}
	}
	return tidy(out)
}

// outside are all addresses but those of the closed networks.
func outside(closed []netip.Prefix) []networkingv1.NetworkPolicyPeer {
	var out []networkingv1.NetworkPolicyPeer
	for _, family := range everywhere {
		except := slices.Clone(family.never)
		for _, p := range closed {
			if p.Addr().Is4() == family.all.Addr().Is4() {
				except = append(except, p.Masked())
			}
		}
		if slices.Contains(except, family.all) {
			// Nothing is left of it, which an exception can't say.
			continue
		}
		slices.SortFunc(except, netip.Prefix.Compare)
		block := &networkingv1.IPBlock{CIDR: family.all.String()}
		for _, p := range slices.Compact(except) {
			block.Except = append(block.Except, p.String())
		}
		out = append(out, networkingv1.NetworkPolicyPeer{IPBlock: block})
	}
	return out
}

func policyPort(protocol corev1.Protocol, port intstr.IntOrString) networkingv1.NetworkPolicyPort {
	return networkingv1.NetworkPolicyPort{Protocol: ptr.To(cmp.Or(protocol, corev1.ProtocolTCP)), Port: &port}
}

// tidy sorts ports and drops repetitions.
func tidy(in []networkingv1.NetworkPolicyPort) []networkingv1.NetworkPolicyPort {
	compare := func(a, b networkingv1.NetworkPolicyPort) int {
		return cmp.Or(cmp.Compare(a.Port.IntVal, b.Port.IntVal), cmp.Compare(a.Port.StrVal, b.Port.StrVal), cmp.Compare(*a.Protocol, *b.Protocol))
	}
	slices.SortFunc(in, compare)
	return slices.CompactFunc(in, func(a, b networkingv1.NetworkPolicyPort) bool { return compare(a, b) == 0 })
}
