// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import corev1 "k8s.io/api/core/v1"

// NetworkProfileSpec has addresses and network ranges of the tenant.
type NetworkProfileSpec struct {
	// address of the API server. When it is empty it is taken from the Service.
	// +optional
	Address string `json:"address,omitempty"`

	// advertiseAddress is where nodes reach the API server, if that is not address.
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || isIP(self)",message="advertiseAddress must be an IP address"
	// +kubebuilder:validation:MaxLength=45
	// +optional
	AdvertiseAddress string `json:"advertiseAddress,omitempty"`

	// port of the API server, in the pods and on the Service. With serviceType
	// NodePort it is the node port, too.
	// +kubebuilder:default=6443
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`

	// allowAddressAsExternalIP lists address among the external IPs of the Service
	// (ClusterIP and NodePort only).
	// +optional
	AllowAddressAsExternalIP bool `json:"allowAddressAsExternalIP,omitempty"`

	// certSANs are further names and addresses in the certificate of the API server.
	// +optional
	CertSANs []string `json:"certSANs,omitempty"`

	// serviceCidr is the range of Service addresses.
	//
	// Deprecated: use serviceCidrs.
	// +kubebuilder:default="10.96.0.0/16"
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || isCIDR(self)",message="serviceCidr must be a network range"
	// +kubebuilder:validation:MaxLength=49
	// +optional
	ServiceCIDR string `json:"serviceCidr,omitempty"`

	// podCidr is the range of pod addresses.
	//
	// Deprecated: use podCidrs.
	// +kubebuilder:default="10.244.0.0/16"
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || isCIDR(self)",message="podCidr must be a network range"
	// +kubebuilder:validation:MaxLength=49
	// +optional
	PodCIDR string `json:"podCidr,omitempty"`

	// serviceCidrs are the ranges of Service addresses, the primary one first. They
	// win over serviceCidr.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="self.all(c, isCIDR(c))",message="serviceCidrs must be network ranges"
	// +optional
	ServiceCIDRs []string `json:"serviceCidrs,omitempty"`

	// podCidrs are the ranges of pod addresses, the primary one first. They win over podCidr.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="self.all(c, isCIDR(c))",message="podCidrs must be network ranges"
	// +optional
	PodCIDRs []string `json:"podCidrs,omitempty"`

	// dnsServiceIPs are the addresses of the name server for pods. They default to
	// the tenth address of each range of Service addresses (the sixteenth of IPv6 ranges).
	// +kubebuilder:validation:MaxItems=8
	// +optional
	DNSServiceIPs []string `json:"dnsServiceIPs,omitempty"`

	// clusterDomain is the DNS domain of Services.
	// +kubebuilder:default=cluster.local
	// +kubebuilder:validation:Pattern=`.*\..*`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="clusterDomain can't be changed"
	// +optional
	ClusterDomain string `json:"clusterDomain,omitempty"`

	// loadBalancerSourceRanges limits who may connect, where the load balancer supports it.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="self.all(c, isCIDR(c))",message="loadBalancerSourceRanges must be network ranges"
	// +optional
	LoadBalancerSourceRanges []string `json:"loadBalancerSourceRanges,omitempty"`

	// loadBalancerClass selects the implementation of the load balancer.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="loadBalancerClass can't be changed"
	// +optional
	LoadBalancerClass *string `json:"loadBalancerClass,omitempty"`
}

// KonnectivitySpec is the tunnel from the API server to the nodes.
type KonnectivitySpec struct {
	// server runs beside the API server.
	// +kubebuilder:default={port:8132,image:"registry.k8s.io/kas-network-proxy/proxy-server"}
	// +optional
	KonnectivityServerSpec KonnectivityServerSpec `json:"server,omitempty"`

	// agent runs in the tenant cluster.
	// +kubebuilder:default={image:"registry.k8s.io/kas-network-proxy/proxy-agent",mode:"DaemonSet"}
	// +optional
	KonnectivityAgentSpec KonnectivityAgentSpec `json:"agent,omitempty"`
}

// KonnectivityServerSpec is the server side of the tunnel.
type KonnectivityServerSpec struct {
	// port that agents connect to; 0, which Go clients send for what is not set, is
	// 8132. With serviceType NodePort it is the node port, too, so the default is out
	// of range there.
	// +kubebuilder:default=8132
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// version of the image. It defaults to the release for the tenant's Kubernetes version.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^\S*$`
	// +optional
	Version string `json:"version,omitempty"`

	// image without a tag.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^\S*$`
	// +kubebuilder:default=registry.k8s.io/kas-network-proxy/proxy-server
	// +optional
	Image string `json:"image,omitempty"`

	// resources of the container.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// extraArgs in the form --name=value. They win over those of the engine.
	// +optional
	ExtraArgs []string `json:"extraArgs,omitempty"`

	// securityContext replaces the restricted default of the container.
	// +optional
	SecurityContext *corev1.SecurityContext `json:"securityContext,omitempty"`
}

// KonnectivityAgentMode is the kind of object that runs the agents.
//
// +kubebuilder:validation:Enum=DaemonSet;Deployment
type KonnectivityAgentMode string

// The values of KonnectivityAgentMode.
const (
	KonnectivityAgentModeDaemonSet  KonnectivityAgentMode = "DaemonSet"
	KonnectivityAgentModeDeployment KonnectivityAgentMode = "Deployment"
)

// KonnectivityAgentSpec is the tenant's side of the tunnel.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.mode) && self.mode == 'Deployment') || !has(self.replicas) || self.replicas > 0",message="replicas must be greater than 0 with mode Deployment"
// +kubebuilder:validation:XValidation:rule="(has(self.mode) && self.mode == 'Deployment') || !has(self.replicas) || self.replicas == 0",message="replicas needs mode Deployment"
type KonnectivityAgentSpec struct {
	// image without a tag.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^\S*$`
	// +kubebuilder:default=registry.k8s.io/kas-network-proxy/proxy-agent
	// +optional
	Image string `json:"image,omitempty"`

	// version of the image. It defaults to the release for the tenant's Kubernetes version.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^\S*$`
	// +optional
	Version string `json:"version,omitempty"`

	// tolerations of the pods. By default they tolerate everything, because nodes
	// are of little use without the tunnel.
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// extraArgs in the form --name=value. They win over those of the engine.
	// +optional
	ExtraArgs []string `json:"extraArgs,omitempty"`

	// resources of the container.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// hostNetwork runs the agents in the network of the node. It defaults to true
	// with a KamajiGateway, so that the tunnel comes up before the CNI plugin and
	// the names of the node's /etc/hosts apply; otherwise to false.
	// +optional
	HostNetwork *bool `json:"hostNetwork,omitempty"`

	// mode is the kind of object that runs the agents.
	// +kubebuilder:default=DaemonSet
	// +optional
	Mode KonnectivityAgentMode `json:"mode,omitempty"`

	// replicas of the Deployment; one if it is not set.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`
}
