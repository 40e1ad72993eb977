// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
)

// Conditions of a RackCluster.
const (
	// ClusterFailureDomainsCondition: the failure domains of the hosts are published.
	ClusterFailureDomainsCondition = "FailureDomainsPublished"
	// ClusterProvisionedCondition: Cluster API was told that the infrastructure is there.
	ClusterProvisionedCondition = "Provisioned"
)

// WaitingForControlPlaneReason of ClusterProvisionedCondition: a hosted control plane does not answer yet. It is
// waited for during the first half minute only.
const WaitingForControlPlaneReason = "WaitingForControlPlane"

// RackClusterSpec is what a user asks of the infrastructure shared by a cluster's machines. Nothing is
// needed: the hosted control plane brings its own endpoint.
//
// +kubebuilder:validation:XValidation:rule="!has(self.controlPlaneEndpoint) || has(self.controlPlaneEndpoint.host) && has(self.controlPlaneEndpoint.port)",message="controlPlaneEndpoint needs host and port; leave it out with KamajiControlPlane, which has its own"
type RackClusterSpec struct {
	// controlPlaneEndpoint is passed on to Cluster API when a control plane provider without an endpoint
	// of its own is used. Leave it empty with KamajiControlPlane, which publishes the endpoint itself.
	// +optional
	ControlPlaneEndpoint clusterv1.APIEndpoint `json:"controlPlaneEndpoint,omitempty,omitzero"`
}

// RackClusterInitializationStatus is the part of the status that Cluster API's contract reads.
// +kubebuilder:validation:MinProperties=1
type RackClusterInitializationStatus struct {
	// provisioned is true as soon as a hosted control plane answers or half a minute has passed, with any other
	// control plane from the first reconcile on: there is nothing to build per cluster. It never goes back.
	// +optional
	Provisioned *bool `json:"provisioned,omitempty"`
}

// RackClusterStatus is the observed state of a RackCluster.
type RackClusterStatus struct {
	// conditions are FailureDomainsPublished, Provisioned, as their sum Ready, and Paused.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// initialization tells Cluster API that the infrastructure is there.
	// +optional
	Initialization RackClusterInitializationStatus `json:"initialization,omitempty,omitzero"`

	// failureDomains lists the distinct spec.failureDomain values of the RackHosts in this namespace,
	// sorted by name.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=100
	FailureDomains []clusterv1.FailureDomain `json:"failureDomains,omitempty"`
}

// RackCluster makes the RackHosts of its namespace available to one Cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=rackclusters,scope=Namespaced,categories=cluster-api
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="cluster.x-k8s.io/v1beta2=v1alpha1"
// +kubebuilder:printcolumn:name="Cluster",type="string",JSONPath=".metadata.labels['cluster\\.x-k8s\\.io/cluster-name']"
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=".status.conditions[?(@.type=='Ready')].status"
// +kubebuilder:printcolumn:name="Paused",type="string",JSONPath=".status.conditions[?(@.type=='Paused')].status",priority=1
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
type RackCluster struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// +optional
	Spec RackClusterSpec `json:"spec,omitempty"`
	// +optional
	Status RackClusterStatus `json:"status,omitempty"`
}

// GetConditions returns status.conditions; Cluster API's condition helpers need it.
func (c *RackCluster) GetConditions() []metav1.Condition { return c.Status.Conditions }

// SetConditions replaces status.conditions.
func (c *RackCluster) SetConditions(conditions []metav1.Condition) { c.Status.Conditions = conditions }

// RackClusterList is a list of RackClusters.
//
// +kubebuilder:object:root=true
type RackClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RackCluster `json:"items"`
}

// RackClusterTemplateResource is the RackCluster that a ClusterClass makes of a template.
type RackClusterTemplateResource struct {
	// metadata is copied to the RackCluster.
	// +optional
	ObjectMeta clusterv1.ObjectMeta `json:"metadata,omitempty,omitzero"`
	// spec is the RackCluster's.
	// +optional
	Spec RackClusterSpec `json:"spec,omitempty,omitzero"`
}

// RackClusterTemplateSpec holds the template.
type RackClusterTemplateSpec struct {
	// template is stamped out once per Cluster of the ClusterClass.
	// +required
	Template RackClusterTemplateResource `json:"template"`
}

// RackClusterTemplate is what a ClusterClass makes RackClusters from.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=rackclustertemplates,scope=Namespaced,categories=cluster-api
// +kubebuilder:storageversion
// +kubebuilder:metadata:labels="cluster.x-k8s.io/v1beta2=v1alpha1"
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
type RackClusterTemplate struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// +required
	Spec RackClusterTemplateSpec `json:"spec,omitempty"`
}

// RackClusterTemplateList is a list of RackClusterTemplates.
//
// +kubebuilder:object:root=true
type RackClusterTemplateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RackClusterTemplate `json:"items"`
}
