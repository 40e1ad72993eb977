// SPDX-License-Identifier: Apache-2.0

// Package controlplane is the control-plane half of the project: hosted
// Kubernetes control planes as pods, and the gateway in front of them.
//
// Its parts, from the bottom up:
//
//   - api/kamaji/v1alpha1 has TenantControlPlane, DataStore and
//     KubeconfigGenerator, the types of the engine; api/v1alpha2 has the Cluster
//     API kinds and the gateway.
//   - hosted is the engine. Its pure packages (pki, kubeconfig, desired, kubeadm,
//     addons, upgrade) say what should exist: they get values, among them the
//     present time, and return complete objects. Its reconcilers (tenant,
//     datastore) read the world, ask the pure packages, and write through
//     internal/apply.
//   - gateway routes TLS connections to tenants by server name, without
//     terminating them.
//   - activator answers for API servers that sleep, and has the engine wake them
//     for clients that prove who they are.
//   - provider translates a KamajiControlPlane of Cluster API to a
//     TenantControlPlane and back. It is the only part that knows Cluster API.
//   - webhook validates what the schemas can't express.
//
// The parts talk to each other through the API objects only. The engine therefore
// serves a TenantControlPlane that nobody created through Cluster API, and the
// provider can drive an engine that somebody else installed.
package controlplane

// The manager's diagnostics endpoint asks the API server who may read it.
//
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create
