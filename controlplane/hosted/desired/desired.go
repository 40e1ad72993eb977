// SPDX-License-Identifier: Apache-2.0

// Package desired builds the objects of a tenant in the management cluster. The
// same input gives the same objects; nothing is read from anywhere else.
package desired

import (
	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
)

// Names of Secrets and ConfigMaps that no other package names, without the
// tenant's name and a dash in front.
const (
	// StorageConfig is the Secret with the database credentials. Keys:
	// DB_CONNECTION_STRING, DB_SCHEMA, DB_USER, DB_PASSWORD, and KineEndpoint for
	// stores that need kine.
	StorageConfig = "datastore-config"
	// EgressConfig is the ConfigMap that tells kube-apiserver about the konnectivity server.
	EgressConfig = "konnectivity-egress-selector-configuration"
	// Authorization is the ConfigMap that has the API server refuse writes.
	Authorization = "authorization-configuration"
	// Migration is the ConfigMap with the record of a migration. It belongs to no
	// set, so that nothing prunes it.
	Migration = "migration"
	// KubeadmConfig is the ConfigMap with the kubeadm documents of the tenant.
	KubeadmConfig = "kubeadmconfig"
)

// Names of the ports of the Service, which the gateway looks for.
const (
	// APIServerPortName is the port of kube-apiserver.
	APIServerPortName = "kube-apiserver"
	// KonnectivityPortName is the port that konnectivity agents connect to.
	KonnectivityPortName = "konnectivity-server"
)

// Annotations by which the engine knows about versions what a status could lose.
const (
	// ServedVersionAnnotation on the ConfigMap KubeadmConfig is the last version of which all pods were.
	ServedVersionAnnotation = "kamaji.clastix.io/served-version"
	// FailedVersionAnnotation there is a version that was given up, and the digest of the spec it was given up with.
	FailedVersionAnnotation = "kamaji.clastix.io/failed-version"
	// TemplateAnnotation on a Deployment is the digest of its pods' template: another one means new pods.
	TemplateAnnotation = "kamaji.clastix.io/template-digest"
	// VersionAnnotation on a pod is its version of Kubernetes.
	VersionAnnotation = "kamaji.clastix.io/kubernetes-version"
)

// Storage is where the tenant's state is kept.
type Storage struct {
	// Name of the DataStore.
	Name string
	// Endpoints are host:port of the members of the etcd.
	Endpoints []string
	// Schema is the key prefix, without slashes around it.
	Schema string
	// Overrides keep single resources elsewhere, with the same credentials.
	Overrides []StorageOverride
	// Kine is the image of the shim that the API server needs for any store but
	// etcd, and empty for etcd. It replaces all of the above.
	Kine string
}

// StorageOverride keeps one resource in another etcd.
type StorageOverride struct {
	// Resource is as in the flag etcd-servers-overrides: /events or apps/deployments.
	Resource string
	// Endpoints are host:port of the members of the etcd.
	Endpoints []string
}

// Public is a certificate that customers trust anyway, for some host names only.
type Public struct {
	// Secret is the name of the Secret with tls.crt and tls.key. kube-apiserver reads them again when they change.
	Secret string
	// Hostnames are those that clients ask for to get it.
	Hostnames []string
}

// Input is everything that the objects depend on.
type Input struct {
	// Tenant is the TenantControlPlane, which becomes the owner of all objects.
	Tenant *kamajiv1alpha1.TenantControlPlane
	// Endpoint is where the tenant is reached.
	Endpoint endpoint.Endpoint
	// Storage is where the state is kept.
	Storage Storage
	// Secrets is the data of every Secret, by name without the tenant's: results
	// of packages pki and kubeconfig, pki.DataStore, and StorageConfig if used.
	Secrets map[string]map[string][]byte
	// Public is the certificate of additional host names; nil without one.
	Public *Public
	// Rotated is the value of the rotate annotation of Secrets that were rotated
	// on request, by name: RFC 3339 times. It is kept from the live Secret.
	Rotated map[string]string
	// Retired is the same for the annotation that ends the rotation of an authority.
	Retired map[string]string
	// Since is when the next authority or key was in use everywhere, by the name of its Secret, while the former one is kept.
	Since map[string]string
	// PriorityClass is the name of the PriorityClass of pods whose tenant names none; may be empty.
	PriorityClass string
	// ServedVersion and FailedVersion are records to keep on the ConfigMap KubeadmConfig; may be empty.
	ServedVersion, FailedVersion string
	// Network is what the NetworkPolicy says of addresses; nil for no NetworkPolicy.
	Network *Network
	// InternalCAs identifies the content of the user's ConfigMap with certificate
	// authorities; empty for none.
	InternalCAs string
	// ClusterConfiguration is the kubeadm document of the tenant, in YAML.
	ClusterConfiguration string
}

// Name is the name of a managed object: the tenant's, a dash, and the suffix.
func Name(tenant *kamajiv1alpha1.TenantControlPlane, suffix string) string {
	return tenant.Name + "-" + suffix
}
