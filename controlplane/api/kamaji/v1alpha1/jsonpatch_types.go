// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

// JSONPatch is one operation of RFC 6902.
type JSONPatch struct {
	// op is the operation.
	// +kubebuilder:validation:Enum=add;remove;replace;move;copy;test
	Op string `json:"op"`

	// path is the target, as a JSON pointer.
	Path string `json:"path"`

	// from is the source of move and copy, as a JSON pointer.
	// +optional
	From string `json:"from,omitempty"`

	// value of add, replace and test.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Value *apiextensionsv1.JSON `json:"value,omitempty"`
}
