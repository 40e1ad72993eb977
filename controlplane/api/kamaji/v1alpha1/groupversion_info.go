// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 has the types of the hosted control plane engine, API group
// kamaji.clastix.io: TenantControlPlane, DataStore and KubeconfigGenerator.
//
// Manifests written for existing installations of this API keep working: kinds,
// JSON fields, defaults and validation are the same, and additions are optional.
//
// +kubebuilder:object:generate=true
// +groupName=kamaji.clastix.io
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// GroupVersion is the API group and version of all types in this package.
	GroupVersion = schema.GroupVersion{Group: "kamaji.clastix.io", Version: "v1alpha1"}

	schemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme registers the types of this package in a scheme.
	AddToScheme = schemeBuilder.AddToScheme
)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&TenantControlPlane{}, &TenantControlPlaneList{},
		&DataStore{}, &DataStoreList{},
		&KubeconfigGenerator{}, &KubeconfigGeneratorList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
