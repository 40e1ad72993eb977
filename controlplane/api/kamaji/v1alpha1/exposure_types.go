// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// ServiceType is how the Service is published.
//
// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
type ServiceType string

// The values of ServiceType.
const (
	ServiceTypeClusterIP    ServiceType = "ClusterIP"
	ServiceTypeNodePort     ServiceType = "NodePort"
	ServiceTypeLoadBalancer ServiceType = "LoadBalancer"
)

// ServiceSpec is the Service in front of the control plane.
//
// +kubebuilder:validation:XValidation:rule="!has(self.allocateLoadBalancerNodePorts) || self.serviceType == 'LoadBalancer'",message="allocateLoadBalancerNodePorts needs serviceType LoadBalancer"
type ServiceSpec struct {
	// serviceType is how the Service is published.
	ServiceType ServiceType `json:"serviceType"`

	// additionalMetadata of the Service.
	// +optional
	AdditionalMetadata AdditionalMetadata `json:"additionalMetadata,omitempty"`

	// additionalPorts of the Service.
	// +optional
	AdditionalPorts []AdditionalPort `json:"additionalPorts,omitempty"`

	// allocateLoadBalancerNodePorts can be turned off for load balancers that don't need node ports.
	// +optional
	AllocateLoadBalancerNodePorts *bool `json:"allocateLoadBalancerNodePorts,omitempty"`
}

// AdditionalPort is a further port of the Service.
type AdditionalPort struct {
	// name of the port, unique in the Service.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// protocol of the port.
	// +kubebuilder:validation:Enum=TCP;UDP;SCTP
	// +kubebuilder:default=TCP
	// +optional
	Protocol corev1.Protocol `json:"protocol,omitempty"`

	// appProtocol is a hint about what is spoken on the port.
	// +optional
	AppProtocol *string `json:"appProtocol,omitempty"`

	// port of the Service.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// targetPort is the number or name of the port of the pods.
	TargetPort intstr.IntOrString `json:"targetPort"`
}

// IngressSpec publishes the API server through an ingress controller.
type IngressSpec struct {
	// additionalMetadata of the Ingress, usually annotations that ask for TLS passthrough.
	// +optional
	AdditionalMetadata AdditionalMetadata `json:"additionalMetadata,omitempty"`

	// ingressClassName of the Ingress.
	// +optional
	IngressClassName string `json:"ingressClassName,omitempty"`

	// hostname of the API server, optionally with the port of the ingress controller.
	// +optional
	Hostname string `json:"hostname,omitempty"`
}

// GatewaySpec publishes the API server by a TLSRoute of the Gateway API.
type GatewaySpec struct {
	// additionalMetadata of the TLSRoute.
	// +optional
	AdditionalMetadata AdditionalMetadata `json:"additionalMetadata,omitempty"`

	// parentRefs are the Gateways the TLSRoute attaches to.
	// +optional
	GatewayParentRefs []gatewayv1.ParentReference `json:"parentRefs,omitempty"`

	// hostname of the API server.
	// +optional
	Hostname gatewayv1.Hostname `json:"hostname,omitempty"`
}

// WorkerEndpoint is the way in which nodes address the API server through a KamajiGateway.
//
// +kubebuilder:validation:Enum=HostsPin;TenantPort
type WorkerEndpoint string

// The values of WorkerEndpoint.
const (
	// WorkerEndpointHostsPin uses the host name that customers use. It resolves to
	// the private address of the gateway on the nodes, by an entry in /etc/hosts
	// or by DNS.
	WorkerEndpointHostsPin WorkerEndpoint = "HostsPin"

	// WorkerEndpointTenantPort uses the private address of the gateway and the
	// port that only this tenant has there, or the private address that is the
	// tenant's own. No name is involved.
	WorkerEndpointTenantPort WorkerEndpoint = "TenantPort"
)

// KamajiGatewaySpec publishes the API server through a KamajiGateway.
//
// +kubebuilder:validation:XValidation:rule="!has(self.exposure) || self.exposure != 'Private' || (!has(self.additionalHostnames) && !has(self.publicPolicy))",message="exposure Private excludes additionalHostnames and publicPolicy, which are about the public address: remove them"
// +kubebuilder:validation:XValidation:rule="!has(self.publicCertificate) || (has(self.additionalHostnames) && size(self.additionalHostnames) > 0)",message="publicCertificate is for additionalHostnames: name at least one"
type KamajiGatewaySpec struct {
	// name of the KamajiGateway.
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`

	// hostname of the API server. It defaults to what the hostnameTemplate of the
	// gateway makes of the object, and is unique among the tenants of the gateway.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	// +optional
	Hostname string `json:"hostname,omitempty"`

	// additionalHostnames also reach the API server, from the public side only.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	// +listType=set
	// +optional
	AdditionalHostnames []string `json:"additionalHostnames,omitempty"`

	// workerEndpoint is how nodes address the API server.
	// +kubebuilder:default=HostsPin
	// +optional
	WorkerEndpoint WorkerEndpoint `json:"workerEndpoint,omitempty"`

	// exposure is PublicAndPrivate, the default, or Private.
	// +optional
	Exposure GatewayExposure `json:"exposure,omitempty"`

	// publicPolicy says who may connect through the public address. Each of its fields
	// takes the place of the gateway's own. The managers probe the API server there, too.
	// +optional
	PublicPolicy *GatewayPolicy `json:"publicPolicy,omitempty"`

	// privatePolicy says who may connect through the private address. Each of its
	// fields takes the place of the gateway's own.
	// +optional
	PrivatePolicy *GatewayPolicy `json:"privatePolicy,omitempty"`

	// publicCertificate is for additionalHostnames, by an issuer that customers
	// trust anyway. The host name of the tenant keeps the tenant's authority, which
	// nodes trust.
	// +optional
	PublicCertificate *PublicCertificate `json:"publicCertificate,omitempty"`

	// wake lets clients that prove who they are wake a control plane whose replicas are 0.
	// Without it such a control plane sleeps until replicas is raised.
	// +optional
	Wake *WakeSpec `json:"wake,omitempty"`
}

// DefaultWakeFor is how long a control plane stays awake when nothing else is said.
const DefaultWakeFor = time.Hour

// WakeSpec is how a sleeping control plane is woken by a connection.
type WakeSpec struct {
	// for is how long the control plane stays awake after a client has woken it, 1h
	// by default. It goes back to sleep then, in use or not, and can be woken again.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(h|m|s))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m')",message="for must be 1m or more: to start takes some seconds by itself"
	// +kubebuilder:default="1h"
	// +optional
	For *metav1.Duration `json:"for,omitempty"`
}
