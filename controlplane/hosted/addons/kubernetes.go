// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// kubernetesService is the address behind the Service default/kubernetes. The API
// server leaves it alone, because it doesn't know under which address it is seen
// by pods of the tenant; see the flag endpoint-reconciler-type. The Endpoints are
// for old readers, and not mirrored to a second EndpointSlice.
func kubernetesService(in Input) []client.Object {
	const name = "kubernetes"
	to := in.Endpoint.InCluster
	family := discoveryv1.AddressTypeIPv4
	if address, err := netip.ParseAddr(to.Host); err == nil && address.Unmap().Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	//nolint:staticcheck // Endpoints are deprecated, and still read.
	endpoints := &corev1.Endpoints{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Endpoints"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceDefault, Labels: map[string]string{
			discoveryv1.LabelSkipMirror: "true",
		}},
		Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: to.Host}},
			Ports:     []corev1.EndpointPort{{Name: "https", Port: to.Port, Protocol: corev1.ProtocolTCP}},
		}},
	}
	slice := &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: discoveryv1.SchemeGroupVersion.String(), Kind: "EndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceDefault, Labels: map[string]string{
			discoveryv1.LabelServiceName: name,
			discoveryv1.LabelManagedBy:   kamajiv1alpha1.ProjectLabelValue,
		}},
		AddressType: family,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{to.Host}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}}},
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("https"), Port: ptr.To(to.Port), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	return []client.Object{endpoints, slice}
}
