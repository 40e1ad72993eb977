// SPDX-License-Identifier: Apache-2.0

// Package v1alpha2 holds the kinds of the control-plane provider in group controlplane.cluster.x-k8s.io:
// KamajiControlPlane and its template, KamajiGateway, and GatewayPortLease.
//
// +kubebuilder:object:generate=true
// +groupName=controlplane.cluster.x-k8s.io
package v1alpha2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// GroupVersion is the group and version of every kind in this package.
	GroupVersion = schema.GroupVersion{Group: "controlplane.cluster.x-k8s.io", Version: "v1alpha2"}

	schemeBuilder = runtime.NewSchemeBuilder(func(scheme *runtime.Scheme) error {
		scheme.AddKnownTypes(GroupVersion, objectTypes...)
		metav1.AddToGroupVersion(scheme, GroupVersion)
		return nil
	})

	// AddToScheme registers every kind of this package.
	AddToScheme = schemeBuilder.AddToScheme

	// objectTypes collects the kinds: each *_types.go file appends its own in init.
	objectTypes []runtime.Object
)
