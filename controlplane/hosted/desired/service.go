// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// Service is the Service in front of the control plane. It is part of Workload,
// and needed before: without a gateway its address is the tenant's.
func Service(tenant *kamajiv1alpha1.TenantControlPlane) *corev1.Service {
	spec, network := &tenant.Spec.ControlPlane.Service, &tenant.Spec.NetworkProfile
	meta := objectMeta(tenant, tenant.Name, "service")
	meta.Labels = with(spec.AdditionalMetadata.Labels, meta.Labels)
	meta.Annotations = with(spec.AdditionalMetadata.Annotations)
	out := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: meta,
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceTypeClusterIP,
			Selector: Selector(tenant),
			Ports:    servicePorts(tenant),
		},
	}
	if spec.ServiceType != "" {
		out.Spec.Type = corev1.ServiceType(spec.ServiceType)
	}
	if len(tenant.ServiceCIDRs()) > 1 {
		// Its clients have both families. Which is the first is the management cluster's matter.
		out.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyPreferDualStack)
	}
	_, err := netip.ParseAddr(network.Address)
	isIP := err == nil
	if out.Spec.Type == corev1.ServiceTypeLoadBalancer {
		out.Spec.AllocateLoadBalancerNodePorts = spec.AllocateLoadBalancerNodePorts
		out.Spec.LoadBalancerSourceRanges = network.LoadBalancerSourceRanges
		out.Spec.LoadBalancerClass = network.LoadBalancerClass
		if isIP {
			out.Spec.LoadBalancerIP = network.Address
		}
	} else if network.AllowAddressAsExternalIP && isIP {
		out.Spec.ExternalIPs = []string{network.Address}
	}
	return out
}

func servicePorts(tenant *kamajiv1alpha1.TenantControlPlane) []corev1.ServicePort {
	// Clients and agents are told one number, so nodes have to listen on the same as the Service.
	same := tenant.Spec.ControlPlane.Service.ServiceType == kamajiv1alpha1.ServiceTypeNodePort
	port := func(name string, number int32) corev1.ServicePort {
		p := corev1.ServicePort{Name: name, Protocol: corev1.ProtocolTCP, Port: number, TargetPort: intstr.FromInt32(number)}
		if same {
			p.NodePort = number
		}
		return p
	}
	out := []corev1.ServicePort{port(APIServerPortName, tenant.Port())}
	if number := tenant.KonnectivityPort(); number != 0 {
		out = append(out, port(KonnectivityPortName, number))
	}
	for _, extra := range tenant.Spec.ControlPlane.Service.AdditionalPorts {
		p := corev1.ServicePort{
			Name: extra.Name, Protocol: extra.Protocol, AppProtocol: extra.AppProtocol, Port: extra.Port, TargetPort: extra.TargetPort,
		}
		if p.Protocol == "" {
			p.Protocol = corev1.ProtocolTCP
		}
		out = append(out, p)
	}
	return out
}
