// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the kinds of the rack infrastructure provider: RackCluster and RackMachine with
// their templates, which Cluster API drives, and RackHost with RackHostClaim, the inventory and its lock.
//
// +kubebuilder:object:generate=true
// +groupName=infrastructure.cluster.x-k8s.io
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// GroupVersion is infrastructure.cluster.x-k8s.io/v1alpha1. The group is the one Cluster API's own
	// manager may already read and write, so no aggregated role is strictly needed.
	GroupVersion = schema.GroupVersion{Group: "infrastructure.cluster.x-k8s.io", Version: "v1alpha1"}

	schemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme registers every kind of this package and its list.
	AddToScheme = schemeBuilder.AddToScheme
)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&RackCluster{}, &RackClusterList{},
		&RackClusterTemplate{}, &RackClusterTemplateList{},
		&RackMachine{}, &RackMachineList{},
		&RackMachineTemplate{}, &RackMachineTemplateList{},
		&RackHost{}, &RackHostList{},
		&RackHostClaim{}, &RackHostClaimList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
