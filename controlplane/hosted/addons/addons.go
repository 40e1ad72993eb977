// SPDX-License-Identifier: Apache-2.0

// Package addons builds the objects that a tenant cluster needs to work: the name
// server, the service proxy, the konnectivity agents, and the address behind the
// Service default/kubernetes. All objects live in the tenant.
package addons

import (
	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
)

// Input is what the objects depend on.
type Input struct {
	// Tenant is the TenantControlPlane.
	Tenant *kamajiv1alpha1.TenantControlPlane
	// Endpoint is where the tenant is reached.
	Endpoint endpoint.Endpoint
}
