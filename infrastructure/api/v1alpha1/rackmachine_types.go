// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
)

const (
	// MachineFinalizer keeps a RackMachine until its host has been reset and verified clean, or put
	// into quarantine.
	MachineFinalizer = "infrastructure.cluster.x-k8s.io/rackmachine"

	// ForceReleaseAnnotation on a RackMachine that is being deleted lets it go without waiting for its
	// host: the host is quarantined and never handed out before somebody has dealt with it.
	ForceReleaseAnnotation = "infrastructure.cluster.x-k8s.io/force-release"
)

// Conditions of a RackMachine, in the order in which they come true.
const (
	// MachineClusterReadyCondition: owner Machine, Cluster and its infrastructure are there.
	MachineClusterReadyCondition = "ClusterInfrastructureReady"
	// MachineBootstrapDataReadyCondition: the bootstrap provider has published its Secret.
	MachineBootstrapDataReadyCondition = "BootstrapDataReady"
	// MachineHostClaimedCondition: a RackHost belongs to this machine.
	MachineHostClaimedCondition = "HostClaimed"
	// MachineBootstrappedCondition: the host ran the bootstrap data to its end.
	MachineBootstrappedCondition = "Bootstrapped"
	// MachineHostReleasedCondition appears at deletion and is false until the host is clean or in quarantine.
	MachineHostReleasedCondition = "HostReleased"
)

// Reasons of RackMachine conditions.
const (
	// WaitingForMachineReason: no Machine owns this object yet.
	WaitingForMachineReason = "WaitingForMachine"
	// WaitingForClusterReason: the Machine's Cluster is not there yet.
	WaitingForClusterReason = "WaitingForCluster"
	// WaitingForClusterInfrastructureReason: Cluster.status.initialization.infrastructureProvisioned is not true.
	WaitingForClusterInfrastructureReason = "WaitingForClusterInfrastructure"
	// WaitingForBootstrapDataReason: Machine.spec.bootstrap.dataSecretName is not set.
	WaitingForBootstrapDataReason = "WaitingForBootstrapData"
	// NoHostAvailableReason: every host was turned down; the message counts the causes.
	NoHostAvailableReason = "NoHostAvailable"
	// WaitingForHostReason: the host controller has not come to this claim yet, or the host object is missing.
	WaitingForHostReason = "WaitingForHost"
	// InvalidSelectorReason: spec.hostSelector cannot be read.
	InvalidSelectorReason = "InvalidSelector"
	// HostClaimLostReason: the claim that belonged to this machine is gone.
	HostClaimLostReason = "HostClaimLost"
	// ReleasingHostReason: the machine is being deleted and its host is being cleaned.
	ReleasingHostReason = "ReleasingHost"
)

// HostPreference adds weight to hosts that match, without turning others down.
type HostPreference struct {
	// weight is added to a host's score once when it matches, 1 to 100.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`

	// matchLabels must all be equal to the host's labels.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue())",message="the keys of matchLabels must be names of labels, such as example.com/gpu"
	// +kubebuilder:validation:XValidation:rule="self.all(k, size(self[k]) <= 63)",message="the values of matchLabels must be values of labels, of at most 63 characters"
	MatchLabels map[string]string `json:"matchLabels,omitempty"`

	// matchExpressions must all hold for the host's labels.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && size(e.values) > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))",message="operator must be In or NotIn with values, or Exists or DoesNotExist without"
	MatchExpressions []metav1.LabelSelectorRequirement `json:"matchExpressions,omitempty"`
}

// HostSelector says which hosts will do and which are better. An empty selector takes any host.
type HostSelector struct {
	// matchLabels must all be equal to the host's labels.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue())",message="the keys of matchLabels must be names of labels, such as example.com/gpu"
	// +kubebuilder:validation:XValidation:rule="self.all(k, size(self[k]) <= 63)",message="the values of matchLabels must be values of labels, of at most 63 characters"
	MatchLabels map[string]string `json:"matchLabels,omitempty"`

	// matchExpressions must all hold for the host's labels.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && size(e.values) > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))",message="operator must be In or NotIn with values, or Exists or DoesNotExist without"
	MatchExpressions []metav1.LabelSelectorRequirement `json:"matchExpressions,omitempty"`

	// preferred ranks the hosts that are left: the highest sum of weights wins, then the smallest host
	// (CPUs, then memory), then the name.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Preferred []HostPreference `json:"preferred,omitempty"`
}

// RackMachineSpec is the desired state of a RackMachine. Only hostSelector and tolerations are the user's;
// changing them after a host was taken has no effect.
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.providerID) || (has(self.providerID) && self.providerID == oldSelf.providerID)",message="providerID cannot change once it is set: the Node was registered with it"
type RackMachineSpec struct {
	// providerID is rack://<host uid>/<claim uid>, unique per claim and equal to the Node's. It is written by the
	// controller.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^rack://[^/]+/[^/]+$')",message="providerID must be rack://<host uid>/<claim uid>; it is written by the controller"
	ProviderID string `json:"providerID,omitempty"`

	// hostSelector narrows down and ranks the RackHosts of this namespace.
	// +optional
	HostSelector HostSelector `json:"hostSelector,omitempty,omitzero"`

	// tolerations let this machine take hosts whose taints they tolerate.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(t, !has(t.operator) || t.operator in ['', 'Exists', 'Equal'])",message="operator must be Exists or Equal"
	// +kubebuilder:validation:XValidation:rule="self.all(t, has(t.operator) && t.operator == 'Exists' ? !has(t.value) || size(t.value) == 0 : has(t.key) && size(t.key) > 0)",message="a toleration needs a key unless operator is Exists, which takes no value"
	// +kubebuilder:validation:XValidation:rule="self.all(t, !has(t.effect) || t.effect in ['', 'NoSchedule', 'PreferNoSchedule', 'NoExecute'])",message="effect must be NoSchedule, PreferNoSchedule or NoExecute"
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
}

// RackMachineInitializationStatus is the part of the status that Cluster API's contract reads.
// +kubebuilder:validation:MinProperties=1
type RackMachineInitializationStatus struct {
	// provisioned is true once the bootstrap data ran to its end on the host. It never goes back.
	// +optional
	Provisioned *bool `json:"provisioned,omitempty"`
}

// RackMachineStatus is the observed state of a RackMachine. All of it can be rebuilt from the spec, the claim
// and the host.
type RackMachineStatus struct {
	// conditions are Ready, Paused and one per step.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// initialization tells Cluster API that the machine is there.
	// +optional
	Initialization RackMachineInitializationStatus `json:"initialization,omitempty,omitzero"`

	// addresses are the host's: its name and the address it is managed at.
	// +optional
	Addresses clusterv1.MachineAddresses `json:"addresses,omitempty"`

	// failureDomain is the host's.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	FailureDomain string `json:"failureDomain,omitempty"`

	// host is the name of the RackHost, and of the RackHostClaim, in this namespace.
	// +optional
	Host string `json:"host,omitempty"`
}

// RackMachine turns one RackHost into a Node of a cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=rackmachines,scope=Namespaced,categories=cluster-api
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="cluster.x-k8s.io/v1beta2=v1alpha1"
// +kubebuilder:printcolumn:name="Cluster",type="string",JSONPath=".metadata.labels['cluster\\.x-k8s\\.io/cluster-name']"
// +kubebuilder:printcolumn:name="Host",type="string",JSONPath=".status.host"
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=".status.conditions[?(@.type=='Ready')].status"
// +kubebuilder:printcolumn:name="Reason",type="string",JSONPath=".status.conditions[?(@.type=='Ready')].reason"
// +kubebuilder:printcolumn:name="Message",type="string",JSONPath=".status.conditions[?(@.type=='Ready')].message",priority=1
// +kubebuilder:printcolumn:name="ProviderID",type="string",JSONPath=".spec.providerID",priority=1
// +kubebuilder:printcolumn:name="Paused",type="string",JSONPath=".status.conditions[?(@.type=='Paused')].status",priority=1
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
type RackMachine struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// +optional
	Spec RackMachineSpec `json:"spec,omitempty"`
	// +optional
	Status RackMachineStatus `json:"status,omitempty"`
}

// GetConditions returns status.conditions; Cluster API's condition helpers need it.
func (m *RackMachine) GetConditions() []metav1.Condition { return m.Status.Conditions }

// SetConditions replaces status.conditions.
func (m *RackMachine) SetConditions(conditions []metav1.Condition) { m.Status.Conditions = conditions }

// RackMachineList is a list of RackMachines.
//
// +kubebuilder:object:root=true
type RackMachineList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RackMachine `json:"items"`
}

// RackMachineTemplateResource is the RackMachine that is made of a template.
type RackMachineTemplateResource struct {
	// metadata is copied to the RackMachine.
	// +optional
	ObjectMeta clusterv1.ObjectMeta `json:"metadata,omitempty,omitzero"`
	// spec is the RackMachine's; providerID must stay empty.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.providerID)",message="providerID belongs to one machine and cannot be in a template"
	Spec RackMachineSpec `json:"spec,omitempty,omitzero"`
}

// RackMachineTemplateSpec holds the template.
type RackMachineTemplateSpec struct {
	// template is stamped out once per Machine.
	// +required
	Template RackMachineTemplateResource `json:"template"`
}

// RackMachineTemplate is what MachineSets make RackMachines from. Its spec is immutable; a webhook enforces it,
// because Cluster API's topology controller must be able to try changes in a dry run.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=rackmachinetemplates,scope=Namespaced,categories=cluster-api
// +kubebuilder:storageversion
// +kubebuilder:metadata:labels="cluster.x-k8s.io/v1beta2=v1alpha1"
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
type RackMachineTemplate struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// +required
	Spec RackMachineTemplateSpec `json:"spec,omitempty"`
}

// RackMachineTemplateList is a list of RackMachineTemplates.
//
// +kubebuilder:object:root=true
type RackMachineTemplateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RackMachineTemplate `json:"items"`
}
