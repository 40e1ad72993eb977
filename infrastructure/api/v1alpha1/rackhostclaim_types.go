// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ClaimFinalizer keeps a RackHostClaim, and with it the lock on the host, until the host was verified clean or
// put into quarantine.
const ClaimFinalizer = "infrastructure.cluster.x-k8s.io/rackhostclaim"

// ClaimMachineLabel on a RackHostClaim is the name of its RackMachine, shortened to a hash when it is too long for a label.
const ClaimMachineLabel = "infrastructure.cluster.x-k8s.io/machine-name"

// ProviderIDPrefix begins every providerID of this provider.
const ProviderIDPrefix = "rack://"

// ClaimMachine is the RackMachine a claim was made for.
type ClaimMachine struct {
	// name of the RackMachine, in the claim's namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// uid of the RackMachine when the claim was made. A RackMachine of the same name and another uid owns the claim only if
	// its spec.providerID is the claim's, as it is after a move between management clusters.
	// +required
	UID types.UID `json:"uid"`
}

// RackHostClaimSpec says who has the host. It is all in the spec, so that it survives a move and a restore.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a claim cannot change; delete it to release the host"
type RackHostClaimSpec struct {
	// id names this use of the host, and the operation on it. No two claims have the same.
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9][a-z0-9-]*$')",message="id must be of a-z, 0-9 and '-'"
	ID string `json:"id"`

	// providerID is rack://<host uid>/<id>; the kubelet registers its Node with it.
	// +required
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.startsWith('rack://')",message="providerID must begin with rack://"
	ProviderID string `json:"providerID"`

	// machine the host is for.
	// +required
	Machine ClaimMachine `json:"machine"`

	// clusterName is the Cluster the host joins. While it is paused nothing is done to the host.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	ClusterName string `json:"clusterName"`

	// dataSecretName is the Secret with the bootstrap data, in the claim's namespace. It is read right before delivery.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	DataSecretName string `json:"dataSecretName"`
}

// RackHostClaim is the lock on the RackHost of the same name: while it exists the host is taken, and creating it is
// how a host is taken. Deleting it releases the host; it is gone when the host is clean.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=rackhostclaims,scope=Namespaced,categories=cluster-api
// +kubebuilder:storageversion
// +kubebuilder:metadata:labels="cluster.x-k8s.io/v1beta2=v1alpha1"
// +kubebuilder:printcolumn:name="Cluster",type="string",JSONPath=".spec.clusterName"
// +kubebuilder:printcolumn:name="Machine",type="string",JSONPath=".spec.machine.name"
// +kubebuilder:printcolumn:name="ProviderID",type="string",JSONPath=".spec.providerID",priority=1
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
type RackHostClaim struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// +required
	Spec RackHostClaimSpec `json:"spec,omitempty"`
}

// RackHostClaimList is a list of RackHostClaims.
//
// +kubebuilder:object:root=true
type RackHostClaimList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RackHostClaim `json:"items"`
}

// HeldBy tells whether the claim belongs to machine: by uid, or after a move by providerID.
func (c *RackHostClaim) HeldBy(machine *RackMachine) bool {
	if c.Spec.Machine.UID == machine.UID {
		return true
	}
	return c.Spec.Machine.Name == machine.Name && machine.Spec.ProviderID != "" && c.Spec.ProviderID == machine.Spec.ProviderID
}
