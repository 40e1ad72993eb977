// SPDX-License-Identifier: Apache-2.0

// Package infrastructure documents the Cluster API infrastructure provider rack: hosts that already run an operating
// system join hosted control planes as workers.
//
//   - api/v1alpha1: RackCluster and RackMachine, which Cluster API drives; RackHost, the inventory; RackHostClaim, the lock
//   - cluster: RackCluster is provisioned at once and lists failure domains
//   - machine: RackMachine claims a host and reports on it; it never talks to one
//   - host: the life of a host, a state machine; the only user of drivers
//   - inventory: which host a machine gets, or why it gets none; pure
//   - bootstrap: bootstrap data of a Machine made into a payload for a host; pure
//   - driver: the seam to a machine, with an SSH implementation, a fake, and the suite both must pass
//   - webhook: immutability of templates
//
// A claim is a RackHostClaim with the host's name: whoever creates it has the host. providerID is
// rack://<host uid>/<claim id>, so that no two Nodes ever share one, even on the same host.
package infrastructure

// The manager's diagnostics endpoint asks the API server who may read it.
//
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create
