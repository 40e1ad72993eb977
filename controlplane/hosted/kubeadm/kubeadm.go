// SPDX-License-Identifier: Apache-2.0

// Package kubeadm builds what `kubeadm init` would have left in a cluster: the
// documents that `kubeadm join` reads, and the permissions to read them and to
// get a certificate. All objects live in the tenant.
package kubeadm

import (
	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
)

// Input is what the documents depend on.
type Input struct {
	// Tenant is the TenantControlPlane.
	Tenant *kamajiv1alpha1.TenantControlPlane
	// Endpoint is where the tenant is reached.
	Endpoint endpoint.Endpoint
	// CACert is the certificate (PEM) of the tenant's authority.
	CACert []byte
}
