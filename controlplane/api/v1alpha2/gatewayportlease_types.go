// SPDX-License-Identifier: Apache-2.0

package v1alpha2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// LeaseTenant names the TenantControlPlane that holds a port.
type LeaseTenant struct {
	// namespace of the TenantControlPlane.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Namespace string `json:"namespace"`

	// name of the TenantControlPlane.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`
}

// GatewayPortLeaseSpec says who holds which port of which gateway.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a lease can't change hands: another tenant needs another lease"
type GatewayPortLeaseSpec struct {
	// gateway is the name of the KamajiGateway.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +required
	Gateway string `json:"gateway"`

	// port on the gateway's private address.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +required
	Port int32 `json:"port"`

	// tenant that holds the port.
	//
	// +required
	Tenant LeaseTenant `json:"tenant"`
}

// GatewayPortLeaseStatus says whether the tenant still needs the port.
type GatewayPortLeaseStatus struct {
	// releasedAt is when the tenant was first seen gone. The lease is deleted, and the port free for others, 24 hours later:
	// workers of the old tenant that are still running must not reach a new one.
	//
	// +optional
	ReleasedAt *metav1.Time `json:"releasedAt,omitempty"`
}

// GatewayPortLease is the claim of a tenant to one port of a gateway's private address. Its name is <gateway>-<port>,
// so creating it is an atomic claim: the second tenant to want the port finds that the name exists.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=kgpl
// +kubebuilder:validation:XValidation:rule="self.metadata.name.startsWith(self.spec.gateway + '-') && int(self.metadata.name.substring(size(self.spec.gateway) + 1)) == self.spec.port",message="name must be <gateway>-<port>: the name is the claim"
// +kubebuilder:printcolumn:name="Gateway",type=string,JSONPath=`.spec.gateway`
// +kubebuilder:printcolumn:name="Port",type=integer,JSONPath=`.spec.port`
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.spec.tenant.namespace`
// +kubebuilder:printcolumn:name="Tenant",type=string,JSONPath=`.spec.tenant.name`
// +kubebuilder:printcolumn:name="Released",type=date,JSONPath=`.status.releasedAt`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type GatewayPortLease struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec GatewayPortLeaseSpec `json:"spec"`
	// +optional
	Status GatewayPortLeaseStatus `json:"status,omitempty"`
}

// GatewayPortLeaseList is a list of GatewayPortLeases.
//
// +kubebuilder:object:root=true
type GatewayPortLeaseList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []GatewayPortLease `json:"items"`
}

func init() {
	objectTypes = append(objectTypes, &GatewayPortLease{}, &GatewayPortLeaseList{})
}
