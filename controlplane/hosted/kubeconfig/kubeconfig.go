// SPDX-License-Identifier: Apache-2.0

// Package kubeconfig makes the kubeconfigs of a tenant: those that people and
// automation use, and those of the components.
//
// Like package pki it is pure but for random numbers, and returns what is still
// good byte for byte.
package kubeconfig

import (
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

// Names of the Secrets, without the tenant's name and a dash in front.
const (
	// Admin is for administrators. Keys: AdminConf, AdminService, SuperAdminConf, SuperAdminService.
	Admin = "admin-kubeconfig"
	// ControllerManager is for kube-controller-manager. Key: controller-manager.conf.
	ControllerManager = "controller-manager-kubeconfig"
	// Scheduler is for kube-scheduler. Key: scheduler.conf.
	Scheduler = "scheduler-kubeconfig"
	// Konnectivity is for the konnectivity server. Key: konnectivity-server.conf.
	Konnectivity = "konnectivity-kubeconfig"
)

// Keys of the Secret Admin. The identities are those of kubeadm: admin gets its
// rights from a ClusterRoleBinding in the tenant and can lose them, super-admin
// is in the group system:masters and can't.
const (
	// AdminConf reaches the tenant from outside.
	AdminConf = "admin.conf"
	// AdminService reaches the tenant from the management cluster.
	AdminService = "admin.svc"
	// SuperAdminConf reaches the tenant from outside.
	SuperAdminConf = "super-admin.conf"
	// SuperAdminService reaches the tenant from the management cluster.
	SuperAdminService = "super-admin.svc"
)

// Input is what the decision needs.
type Input struct {
	// Existing is the data of the Secrets that exist, by the names of this package.
	Existing map[string]map[string][]byte
	// Rotate holds the names of Secrets whose contents shall be replaced even if they are good.
	// Konnectivity is replaced by giving another certificate.
	Rotate map[string]bool
	// CACert and CAKey (PEM) sign the client certificates.
	CACert, CAKey []byte
	// KonnectivityCert and KonnectivityKey (PEM) are the identity of the
	// konnectivity server; empty without one.
	KonnectivityCert, KonnectivityKey []byte
	// Cluster is the name of the cluster entry, usually the tenant's name.
	Cluster string
	// Endpoint is where the tenant is reached.
	Endpoint endpoint.Endpoint
	// Public, when set, takes the place of Endpoint.Client. Its certificate is one that systems trust anyway.
	Public *endpoint.Server
	// LocalPort is the port of the API server in its pod, which the components use.
	LocalPort int32
	// Now is the present time.
	Now time.Time
}

// Secrets are the names of those that Issue makes of the input.
func (in Input) Secrets() []string {
	names := []string{Admin, ControllerManager, Scheduler}
	if len(in.KonnectivityCert) > 0 {
		names = append(names, Konnectivity)
	}
	return names
}

// Result is the complete set of Secrets.
type Result struct {
	// Data of each Secret, by the names of this package.
	Data map[string]map[string][]byte
	// Changed are the names of Secrets whose data differs from the input, sorted.
	Changed []string
	// Notes tell what was done and why, in no order; several may be about one Secret.
	Notes []pki.Note
	// NextRenewal is when Issue has something to do again, if nothing else changes.
	NextRenewal time.Time
}
