// SPDX-License-Identifier: Apache-2.0

package v1alpha2

import (
	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// GatewayLimits protect one instance of a data plane.
//
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(self.connections) || !has(self.pendingConnections) || self.pendingConnections <= self.connections",message="pendingConnections must not be more than connections, of which they are a part"
type GatewayLimits struct {
	// connections that may be open at once, over all tenants. The public listener may have nine tenths of them, and all others together,
	// too. The default is half the open files that the process may have. Connections that are open stay when the limit is lowered.
	//
	// +kubebuilder:validation:Minimum=100
	// +kubebuilder:validation:Maximum=10000000
	// +optional
	Connections *int32 `json:"connections,omitempty"`

	// pendingConnections may be without their ClientHello; of more, the oldest is closed. The default is a quarter of all.
	//
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=10000000
	// +optional
	PendingConnections *int32 `json:"pendingConnections,omitempty"`

	// connectionAgeSeconds is how long a new connection may last, by chance up to a fifth less. Clients come back and are spread over the
	// endpoints again, and those whose certificate has expired since do not. The default is for ever.
	//
	// +kubebuilder:validation:Minimum=60
	// +kubebuilder:validation:Maximum=31536000
	// +optional
	ConnectionAgeSeconds *int32 `json:"connectionAgeSeconds,omitempty"`
}

// GatewayProxyProtocol names the load balancers in front of a gateway. Connections from there must begin with a PROXY protocol header of
// version 1 or 2, others must not.
//
// +kubebuilder:validation:MinProperties=1
type GatewayProxyProtocol struct {
	// publicSources are the networks of load balancers in front of publicAddress.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +optional
	PublicSources []kamajiv1alpha1.SourceCIDR `json:"publicSources,omitempty"`

	// privateSources are the networks of load balancers in front of privateAddress, the tenants' ports and privatePrefix.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +optional
	PrivateSources []kamajiv1alpha1.SourceCIDR `json:"privateSources,omitempty"`
}
