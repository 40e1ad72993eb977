// SPDX-License-Identifier: Apache-2.0

package v1alpha2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
)

func init() {
	objectTypes = append(objectTypes,
		&KamajiControlPlane{}, &KamajiControlPlaneList{},
		&KamajiControlPlaneTemplate{}, &KamajiControlPlaneTemplateList{},
	)
}

// KamajiControlPlaneFinalizer holds a KamajiControlPlane until its TenantControlPlane, with pods and data, is gone.
const KamajiControlPlaneFinalizer = "controlplane.cluster.x-k8s.io/kamajicontrolplane"

// Condition types of a KamajiControlPlane beyond those of the Cluster API contract.
const (
	// TenantControlPlaneAppliedCondition says that the TenantControlPlane was accepted as this object wants it.
	TenantControlPlaneAppliedCondition = "TenantControlPlaneApplied"
	// EndpointReadyCondition says that the address of the API server is known and published.
	EndpointReadyCondition = "EndpointReady"
	// CertificatesAvailableCondition says that the Secrets <cluster>-ca and <cluster>-kubeconfig are published.
	CertificatesAvailableCondition = "CertificatesAvailable"
	// InitializedCondition says that the API server has answered a request made with the published kubeconfig.
	InitializedCondition = "Initialized"
)

// Reasons of the conditions of a KamajiControlPlane.
const (
	// TenantControlPlaneRejectedReason: the API server or a webhook refused the TenantControlPlane.
	TenantControlPlaneRejectedReason = "TenantControlPlaneRejected"
	// ForeignObjectReason: an object with a needed name belongs to somebody else.
	ForeignObjectReason = "ForeignObject"
	// AddressPendingReason: the engine has not found an address yet.
	AddressPendingReason = "AddressPending"
	// EndpointChangedReason: the address found is not the one published, which workers carry for life.
	EndpointChangedReason = "EndpointChanged"
	// SecretPendingReason: the engine has not made a Secret yet.
	SecretPendingReason = "SecretPending"
	// KubeconfigKeyMissingReason: the annotation that selects a kubeconfig names a key that is not there.
	KubeconfigKeyMissingReason = "KubeconfigKeyMissing"
	// SleepingReason: spec.replicas is 0.
	SleepingReason = "Sleeping"
	// NotAnsweringReason: the published kubeconfig gets no answer yet.
	NotAnsweringReason = "NotAnswering"
)

// KamajiControlPlaneSpec is the control plane of one Cluster.
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.dataStoreSchema) || has(self.dataStoreSchema)",message="dataStoreSchema can't be removed once it is set"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.dataStoreUsername) || has(self.dataStoreUsername)",message="dataStoreUsername can't be removed once it is set"
type KamajiControlPlaneSpec struct {
	KamajiControlPlaneFields `json:",inline"`

	// controlPlaneEndpoint is where the API server is reached. It is set once, by this provider, and stays for life.
	// +optional
	ControlPlaneEndpoint clusterv1.APIEndpoint `json:"controlPlaneEndpoint,omitempty,omitzero"`

	// replicas is the number of control plane pods. With 0 the control plane sleeps: its data stays, nothing answers.
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=0
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// version of Kubernetes, such as v1.36.3. The leading v may be left out.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^v?(0|[1-9][0-9]*)[.](0|[1-9][0-9]*)[.](0|[1-9][0-9]*)([-+].+)?$')",message="version must be a semantic version such as v1.36.3"
	// +required
	Version string `json:"version,omitempty"`
}

// KamajiControlPlaneStatus is the observed control plane, by the v1beta2 contract of Cluster API.
type KamajiControlPlaneStatus struct {
	// conditions report each step and the state of the control plane.
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// initialization has the milestones of creation; they never go back.
	// +optional
	Initialization KamajiControlPlaneInitialization `json:"initialization,omitempty,omitzero"`

	// externalManagedControlPlane is always true: the control plane has no Machines. Cluster API drains workers only when it knows that.
	// +optional
	ExternalManagedControlPlane *bool `json:"externalManagedControlPlane,omitempty"`

	// selector of the control plane pods, for the scale subresource.
	// +optional
	Selector string `json:"selector,omitempty"`

	// replicas is the number of pods.
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// readyReplicas is the number of pods that answer.
	// +optional
	ReadyReplicas *int32 `json:"readyReplicas,omitempty"`

	// availableReplicas is the number of pods that have answered for long enough.
	// +optional
	AvailableReplicas *int32 `json:"availableReplicas,omitempty"`

	// upToDateReplicas is the number of pods of the newest generation.
	// +optional
	UpToDateReplicas *int32 `json:"upToDateReplicas,omitempty"`

	// version is the lowest version that runs.
	// +optional
	Version string `json:"version,omitempty"`

	// versions are those that run, lowest first: one, or two during an upgrade.
	// +listType=map
	// +listMapKey=version
	// +kubebuilder:validation:MaxItems=100
	// +optional
	Versions []clusterv1.StatusVersion `json:"versions,omitempty"`

	// observedGeneration is the generation that was last reconciled.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
}

// KamajiControlPlaneInitialization has the milestones of creation.
//
// +kubebuilder:validation:MinProperties=1
type KamajiControlPlaneInitialization struct {
	// controlPlaneInitialized is true from the first answer of the API server to a request with the published kubeconfig.
	// +optional
	ControlPlaneInitialized *bool `json:"controlPlaneInitialized,omitempty"`
}

// KamajiControlPlane is a Cluster API control plane that runs as pods.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=ktcp,categories=cluster-api
// +kubebuilder:metadata:labels={"cluster.x-k8s.io/v1beta2=v1alpha2"}
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:printcolumn:name="Cluster",type="string",JSONPath=".metadata.labels['cluster\\.x-k8s\\.io/cluster-name']",description="Cluster"
// +kubebuilder:printcolumn:name="Version",type="string",JSONPath=".status.version",description="Kubernetes version that runs"
// +kubebuilder:printcolumn:name="Available",type="string",JSONPath=".status.conditions[?(@.type=='Available')].status",description="The API server answers"
// +kubebuilder:printcolumn:name="Reason",type="string",JSONPath=".status.conditions[?(@.type=='Ready')].reason",description="What is awaited"
// +kubebuilder:printcolumn:name="Endpoint",type="string",JSONPath=".spec.controlPlaneEndpoint.host",description="Host of the API server"
// +kubebuilder:printcolumn:name="Desired",type="integer",JSONPath=".spec.replicas",description="Wanted pods"
// +kubebuilder:printcolumn:name="Ready",type="integer",JSONPath=".status.readyReplicas",description="Pods that answer"
// +kubebuilder:printcolumn:name="Paused",type="string",JSONPath=".status.conditions[?(@.type=='Paused')].status",description="Reconciliation is paused",priority=10
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp",description="Age"
type KamajiControlPlane struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   KamajiControlPlaneSpec   `json:"spec,omitempty"`
	Status KamajiControlPlaneStatus `json:"status,omitempty"`
}

// GetConditions returns status.conditions, for Cluster API's utilities.
func (in *KamajiControlPlane) GetConditions() []metav1.Condition { return in.Status.Conditions }

// SetConditions replaces status.conditions, for Cluster API's utilities.
func (in *KamajiControlPlane) SetConditions(conditions []metav1.Condition) {
	in.Status.Conditions = conditions
}

// KamajiControlPlaneList is a list of KamajiControlPlanes.
//
// +kubebuilder:object:root=true
type KamajiControlPlaneList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []KamajiControlPlane `json:"items"`
}

// KamajiControlPlaneTemplate is what ClusterClasses make KamajiControlPlanes from.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=cluster-api
// +kubebuilder:metadata:labels={"cluster.x-k8s.io/v1beta2=v1alpha2"}
// +kubebuilder:storageversion
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp",description="Age"
type KamajiControlPlaneTemplate struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec KamajiControlPlaneTemplateSpec `json:"spec,omitempty"`
}

// KamajiControlPlaneTemplateSpec wraps the template.
type KamajiControlPlaneTemplateSpec struct {
	// template of a KamajiControlPlane.
	// +required
	Template KamajiControlPlaneTemplateResource `json:"template"`
}

// KamajiControlPlaneTemplateResource is a KamajiControlPlane without what the topology sets: replicas and version.
type KamajiControlPlaneTemplateResource struct {
	// metadata for the KamajiControlPlanes.
	// +optional
	ObjectMeta clusterv1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec for the KamajiControlPlanes.
	// +optional
	Spec KamajiControlPlaneFields `json:"spec,omitempty"`
}

// KamajiControlPlaneTemplateList is a list of KamajiControlPlaneTemplates.
//
// +kubebuilder:object:root=true
type KamajiControlPlaneTemplateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []KamajiControlPlaneTemplate `json:"items"`
}
