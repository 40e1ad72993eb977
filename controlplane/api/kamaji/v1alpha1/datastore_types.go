// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DataStore is an external store that keeps the state of tenants.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=kamaji
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Driver",type="string",JSONPath=".spec.driver",description="Kind of store"
// +kubebuilder:printcolumn:name="Ready",type="boolean",JSONPath=".status.ready",description="Whether tenants can use it"
// +kubebuilder:printcolumn:name="Tenants",type="integer",JSONPath=".status.tenants",description="How many tenants use it"
// +kubebuilder:printcolumn:name="Max",type="integer",JSONPath=".spec.maxTenants",description="How many may"
// +kubebuilder:printcolumn:name="Reason",type="string",JSONPath=".status.conditions[?(@.type=='Ready')].reason",description="Why it is ready or not",priority=1
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp",description="Age"
type DataStore struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   DataStoreSpec   `json:"spec,omitempty"`
	Status DataStoreStatus `json:"status,omitempty"`
}

// DataStoreList is a list of DataStores.
//
// +kubebuilder:object:root=true
type DataStoreList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []DataStore `json:"items"`
}

// Driver is a kind of store.
//
// +kubebuilder:validation:Enum=etcd;MySQL;PostgreSQL;NATS
type Driver string

// The values of Driver.
const (
	DriverEtcd       Driver = "etcd"
	DriverMySQL      Driver = "MySQL"
	DriverPostgreSQL Driver = "PostgreSQL"
	DriverNATS       Driver = "NATS"
)

// DataStoreSpec says how to reach the store.
//
// +kubebuilder:validation:XValidation:rule="self.driver != 'etcd' || (has(self.tlsConfig) && has(self.tlsConfig.certificateAuthority.privateKey) && (has(self.tlsConfig.certificateAuthority.privateKey.secretReference) || has(self.tlsConfig.certificateAuthority.privateKey.content)))",message="etcd needs tlsConfig.certificateAuthority.privateKey, to sign a certificate for each tenant"
// +kubebuilder:validation:XValidation:rule="self.driver != 'etcd' || (has(self.tlsConfig) && has(self.tlsConfig.clientCertificate) && (has(self.tlsConfig.clientCertificate.certificate.secretReference) || has(self.tlsConfig.clientCertificate.certificate.content)))",message="etcd needs tlsConfig.clientCertificate.certificate"
// +kubebuilder:validation:XValidation:rule="self.driver != 'etcd' || (has(self.tlsConfig) && has(self.tlsConfig.clientCertificate) && (has(self.tlsConfig.clientCertificate.privateKey.secretReference) || has(self.tlsConfig.clientCertificate.privateKey.content)))",message="etcd needs tlsConfig.clientCertificate.privateKey"
// +kubebuilder:validation:XValidation:rule="self.driver == 'etcd' || has(self.tlsConfig) || has(self.basicAuth) || has(self.nats)",message="a driver other than etcd needs tlsConfig or basicAuth, or nats"
// +kubebuilder:validation:XValidation:rule="self.driver == 'NATS' || !has(self.nats)",message="nats is for the driver NATS"
// +kubebuilder:validation:XValidation:rule="!has(self.basicAuth) || has(self.basicAuth.username.secretReference) || has(self.basicAuth.username.content)",message="basicAuth.username needs content or secretReference"
// +kubebuilder:validation:XValidation:rule="!has(self.basicAuth) || has(self.basicAuth.password.secretReference) || has(self.basicAuth.password.content)",message="basicAuth.password needs content or secretReference"
// +kubebuilder:validation:XValidation:rule="!has(self.tlsConfig) || !has(self.tlsConfig.clientCertificate) || has(self.tlsConfig.clientCertificate.certificate.secretReference) || has(self.tlsConfig.clientCertificate.certificate.content)",message="tlsConfig.clientCertificate.certificate needs content or secretReference"
type DataStoreSpec struct {
	// driver is the kind of store.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="driver can't be changed"
	Driver Driver `json:"driver"`

	// endpoints are host:port of the members, without a scheme.
	// +kubebuilder:validation:MinItems=1
	Endpoints []string `json:"endpoints"`

	// basicAuth is the account that creates databases and users for tenants.
	// +optional
	BasicAuth *BasicAuth `json:"basicAuth,omitempty"`

	// tlsConfig secures the connections.
	// +optional
	TLSConfig *TLSConfig `json:"tlsConfig,omitempty"`

	// nats is how the engine administrates the driver NATS, which can't do without:
	// tenants are kept apart by accounts, and basicAuth is one account.
	// +optional
	NATS *NATS `json:"nats,omitempty"`

	// maxTenants is how many tenants may use the store, any number if absent. Those
	// that use it already stay when it is lowered; with 0 no others come.
	// +kubebuilder:validation:Minimum=0
	// +optional
	MaxTenants *int32 `json:"maxTenants,omitempty"`
}

// NATS is how the engine administrates a NATS in operator mode: it signs an account
// for each tenant.
//
// +kubebuilder:validation:XValidation:rule="has(self.operatorSeed.secretReference) || has(self.operatorSeed.content)",message="nats.operatorSeed needs content or secretReference"
// +kubebuilder:validation:XValidation:rule="has(self.systemCredentials.secretReference) || has(self.systemCredentials.content)",message="nats.systemCredentials needs content or secretReference"
type NATS struct {
	// operatorSeed is the seed (SO…) of the operator's key, or better of one of its
	// signing keys.
	OperatorSeed ContentRef `json:"operatorSeed"`

	// systemCredentials is the credentials file of a user in the system account.
	SystemCredentials ContentRef `json:"systemCredentials"`

	// replicas is how many servers keep each tenant's data, 1 if absent.
	// +kubebuilder:validation:Enum=1;3;5
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// tenantStorage is how much a tenant's data may take on each of these servers,
	// with ten revisions of every object; any amount if absent.
	// +optional
	TenantStorage *resource.Quantity `json:"tenantStorage,omitempty"`
}

// BasicAuth is an account.
type BasicAuth struct {
	// username of the account.
	Username ContentRef `json:"username"`

	// password of the account.
	Password ContentRef `json:"password"`
}

// TLSConfig secures connections to the store.
type TLSConfig struct {
	// certificateAuthority that signed the certificates of the store. With its
	// private key the engine signs a client certificate for each tenant.
	CertificateAuthority CertKeyPair `json:"certificateAuthority"`

	// clientCertificate is the identity of the engine.
	// +optional
	ClientCertificate *ClientCertificate `json:"clientCertificate,omitempty"`
}

// CertKeyPair is a certificate with an optional key, both PEM.
type CertKeyPair struct {
	// certificate in PEM.
	Certificate ContentRef `json:"certificate"`

	// privateKey in PEM.
	// +optional
	PrivateKey *ContentRef `json:"privateKey,omitempty"`
}

// ClientCertificate is a certificate with its key, both PEM.
type ClientCertificate struct {
	// certificate in PEM.
	Certificate ContentRef `json:"certificate"`

	// privateKey in PEM.
	PrivateKey ContentRef `json:"privateKey"`
}

// ContentRef is a value, or where to find it. The value wins.
type ContentRef struct {
	// content is the value, base64-encoded in JSON.
	// +optional
	Content []byte `json:"content,omitempty"`

	// secretReference is where the value is.
	// +optional
	SecretRef *SecretReference `json:"secretReference,omitempty"`
}

// SecretReference names a key of a Secret.
//
// +structType=atomic
type SecretReference struct {
	// name of the Secret.
	// +optional
	Name string `json:"name,omitempty"`

	// namespace of the Secret.
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// keyPath is the key in the Secret's data.
	// +kubebuilder:validation:MinLength=1
	KeyPath string `json:"keyPath"`
}

// DataStoreStatus is the observed store.
type DataStoreStatus struct {
	// observedGeneration is the generation that was checked last.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// usedBy lists the tenants that keep state in the store, as namespace/name.
	// +optional
	UsedBy []string `json:"usedBy,omitempty"`

	// tenants is how many there are in usedBy.
	// +optional
	Tenants int32 `json:"tenants,omitempty"`

	// conditions of the store.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// ready tells whether the engine could connect and authenticate.
	Ready bool `json:"ready"`
}
