// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// KubeconfigGenerator makes a kubeconfig Secret for each of the TenantControlPlanes it selects.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=kc,categories=kamaji
// +kubebuilder:subresource:status
type KubeconfigGenerator struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   KubeconfigGeneratorSpec   `json:"spec,omitempty"`
	Status KubeconfigGeneratorStatus `json:"status,omitempty"`
}

// KubeconfigGeneratorList is a list of KubeconfigGenerators.
//
// +kubebuilder:object:root=true
type KubeconfigGeneratorList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []KubeconfigGenerator `json:"items"`
}

// KubeconfigGeneratorSpec says which kubeconfigs are wanted.
type KubeconfigGeneratorSpec struct {
	// namespaceSelector selects the namespaces to look in; empty means all.
	// +optional
	NamespaceSelector metav1.LabelSelector `json:"namespaceSelector,omitempty"`

	// tenantControlPlaneSelector selects objects there; empty means all.
	// +optional
	TenantControlPlaneSelector metav1.LabelSelector `json:"tenantControlPlaneSelector,omitempty"`

	// user is the identity in the tenant cluster.
	User CompoundValue `json:"user"`

	// groups of the identity.
	// +kubebuilder:validation:MaxItems=256
	// +optional
	Groups []CompoundValue `json:"groups,omitempty"`

	// controlPlaneEndpointFrom is the key of the admin kubeconfig Secret from which
	// the address of the API server is taken.
	// +kubebuilder:default=admin.svc
	// +optional
	ControlPlaneEndpointFrom string `json:"controlPlaneEndpointFrom,omitempty"`
}

// CompoundValue is a fixed value or a field of the TenantControlPlane.
//
// +kubebuilder:validation:XValidation:rule="(has(self.stringValue) && size(self.stringValue) > 0) != (has(self.fromDefinition) && size(self.fromDefinition) > 0)",message="exactly one of stringValue and fromDefinition is needed"
type CompoundValue struct {
	// stringValue is the value itself.
	// +optional
	StringValue string `json:"stringValue,omitempty"`

	// fromDefinition is the path of a field of the TenantControlPlane, such as metadata.name.
	// +optional
	FromDefinition string `json:"fromDefinition,omitempty"`
}

// KubeconfigGeneratorStatus tells what was made.
type KubeconfigGeneratorStatus struct {
	// observedGeneration is the generation that was handled last.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// resources is the number of TenantControlPlanes selected.
	// +optional
	Resources int32 `json:"resources"`

	// availableResources is the number of Secrets that are up to date.
	// +optional
	AvailableResources int32 `json:"availableResources"`

	// errors are the TenantControlPlanes without an up-to-date Secret.
	// +optional
	Errors []KubeconfigGeneratorError `json:"errors,omitempty"`
}

// KubeconfigGeneratorError is a TenantControlPlane without an up-to-date Secret.
type KubeconfigGeneratorError struct {
	// resource is the TenantControlPlane, as namespace/name.
	Resource string `json:"resource"`

	// message says what is wrong.
	Message string `json:"message"`
}
