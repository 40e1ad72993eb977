// SPDX-License-Identifier: Apache-2.0

// Package provider is the control-plane provider of Cluster API: it turns each KamajiControlPlane into a
// TenantControlPlane of the same name and namespace, and publishes what Cluster API's contract asks for in return:
// the endpoint, the Secrets <cluster>-kubeconfig and <cluster>-ca, versions, counters and conditions.
//
// It talks to the engine through the TenantControlPlane object alone and is the only package of this half of the
// repository that imports Cluster API.
package provider
