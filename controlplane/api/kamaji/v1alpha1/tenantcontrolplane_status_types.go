// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// TenantControlPlaneStatus is the observed control plane. All of it can be rebuilt from the cluster.
type TenantControlPlaneStatus struct {
	// observedGeneration is the generation that the last complete pass has seen.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions tell how far the control plane is, one for each step; Ready sums them up.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// controlPlaneEndpoint is host:port of the API server for clients in the management cluster and for Cluster API.
	// +optional
	ControlPlaneEndpoint string `json:"controlPlaneEndpoint,omitempty"`

	// kamajiGateway is where the gateway publishes the tenant. The gateway writes it.
	// +optional
	KamajiGateway *KamajiGatewayStatus `json:"kamajiGateway,omitempty"`

	// storage is where the state is kept.
	// +optional
	Storage StorageStatus `json:"storage,omitempty"`

	// certificates are the Secrets with keys and certificates.
	// +optional
	Certificates CertificatesStatus `json:"certificates,omitempty"`

	// kubeconfig are the Secrets with kubeconfigs.
	// +optional
	KubeConfig KubeconfigsStatus `json:"kubeconfig,omitempty"`

	// kubernetesResources are the objects that run and publish the components.
	// +optional
	Kubernetes KubernetesStatus `json:"kubernetesResources,omitempty"`

	// kubeadmconfig is the ConfigMap with the kubeadm documents of the tenant.
	// +optional
	KubeadmConfig KubeadmConfigStatus `json:"kubeadmconfig,omitempty"`

	// kubeadmPhase tells what was set up for joining nodes.
	// +optional
	KubeadmPhase *KubeadmPhasesStatus `json:"kubeadmPhase,omitempty"`

	// addons installed in the tenant cluster.
	// +optional
	Addons AddonsStatus `json:"addons,omitempty"`
}

// KamajiGatewayStatus is where a KamajiGateway publishes a tenant.
type KamajiGatewayStatus struct {
	// name of the KamajiGateway.
	Name string `json:"name"`

	// hostname that is routed to the tenant on the public and the private address.
	Hostname string `json:"hostname"`

	// additionalHostnames that are routed to the tenant on the public address.
	// +optional
	AdditionalHostnames []string `json:"additionalHostnames,omitempty"`

	// publicAddress is the IP address for customers. A tenant with exposure Private has none.
	// +optional
	PublicAddress string `json:"publicAddress,omitempty"`

	// privateAddress is the IP address for nodes.
	// +optional
	PrivateAddress string `json:"privateAddress,omitempty"`

	// tenantAddress is the private IP address that belongs to this tenant alone. It is served on port, and needs
	// no server name. Empty when the gateway has no privatePrefix.
	// +optional
	TenantAddress string `json:"tenantAddress,omitempty"`

	// port on both addresses where tenants are told apart by server name.
	Port int32 `json:"port"`

	// tenantPort on the private address belongs to this tenant alone, and needs no server name.
	// +optional
	TenantPort int32 `json:"tenantPort,omitempty"`
}

// StorageStatus is where the state is kept.
type StorageStatus struct {
	// driver of the DataStore.
	// +optional
	Driver string `json:"driver,omitempty"`

	// dataStoreName is the DataStore in use.
	// +optional
	DataStoreName string `json:"dataStoreName,omitempty"`

	// config is the Secret with the database credentials.
	// +optional
	Config ConfigSecretStatus `json:"config,omitempty"`

	// setup is what exists in the datastore.
	// +optional
	Setup StorageSetupStatus `json:"setup,omitempty"`

	// certificate is the Secret with the client certificate for the datastore.
	// +optional
	Certificate SecretStatus `json:"certificate,omitempty"`
}

// ConfigSecretStatus refers to a Secret with configuration.
type ConfigSecretStatus struct {
	// secretName is its name.
	// +optional
	SecretName string `json:"secretName,omitempty"`

	// checksum of its data.
	// +optional
	Checksum string `json:"checksum,omitempty"`
}

// StorageSetupStatus is what exists for a tenant in its datastore.
type StorageSetupStatus struct {
	// schema is the database or key prefix.
	// +optional
	Schema string `json:"schema,omitempty"`

	// user is the tenant's user.
	// +optional
	User string `json:"user,omitempty"`

	// lastUpdate is when they were last changed.
	// +optional
	LastUpdate metav1.Time `json:"lastUpdate,omitempty"`

	// checksum of the credentials they were set up with.
	// +optional
	Checksum string `json:"checksum,omitempty"`
}

// SecretStatus refers to a Secret with keys, certificates or a kubeconfig.
type SecretStatus struct {
	// secretName is its name.
	// +optional
	SecretName string `json:"secretName,omitempty"`

	// lastUpdate is when its data last changed.
	// +optional
	LastUpdate metav1.Time `json:"lastUpdate,omitempty"`

	// checksum of its data.
	// +optional
	Checksum string `json:"checksum,omitempty"`
}

// CertificatesStatus are the Secrets with keys and certificates.
type CertificatesStatus struct {
	// ca signs everything but front proxies.
	// +optional
	CA SecretStatus `json:"ca,omitempty"`

	// apiServer is the serving certificate.
	// +optional
	APIServer SecretStatus `json:"apiServer,omitempty"`

	// apiServerKubeletClient authenticates the API server to kubelets.
	// +optional
	APIServerKubeletClient SecretStatus `json:"apiServerKubeletClient,omitempty"`

	// frontProxyCA signs the clients that may name other users.
	// +optional
	FrontProxyCA SecretStatus `json:"frontProxyCA,omitempty"`

	// frontProxyClient authenticates the API server to extension API servers.
	// +optional
	FrontProxyClient SecretStatus `json:"frontProxyClient,omitempty"`

	// sa is the key pair that signs ServiceAccount tokens.
	// +optional
	SA SecretStatus `json:"sa,omitempty"`

	// etcd is not written any more.
	// +optional
	ETCD *ETCDCertificatesStatus `json:"etcd,omitempty"`
}

// ETCDCertificatesStatus is kept so that stored objects of earlier engines stay valid.
type ETCDCertificatesStatus struct {
	// apiServer is the client certificate of the API server.
	// +optional
	APIServer SecretStatus `json:"apiServer,omitempty"`

	// ca is the authority of etcd.
	// +optional
	CA SecretStatus `json:"ca,omitempty"`
}

// KubeconfigsStatus are the Secrets with kubeconfigs.
type KubeconfigsStatus struct {
	// admin is for administrators.
	// +optional
	Admin SecretStatus `json:"admin,omitempty"`

	// controllerManager is for kube-controller-manager.
	// +optional
	ControllerManager SecretStatus `json:"controllerManager,omitempty"`

	// scheduler is for kube-scheduler.
	// +optional
	Scheduler SecretStatus `json:"scheduler,omitempty"`
}

// KubeadmConfigStatus is the ConfigMap with the kubeadm documents.
type KubeadmConfigStatus struct {
	// configmapName is its name.
	// +optional
	ConfigmapName string `json:"configmapName,omitempty"`

	// lastUpdate is when its data last changed.
	// +optional
	LastUpdate metav1.Time `json:"lastUpdate,omitempty"`

	// checksum of its data.
	// +optional
	Checksum string `json:"checksum,omitempty"`
}

// KubeadmPhasesStatus tells what was set up for joining nodes.
type KubeadmPhasesStatus struct {
	// bootstrapToken is the permissions of bootstrap tokens and cluster-info.
	BootstrapToken KubeadmPhaseStatus `json:"bootstrapToken"`
}

// KubeadmPhaseStatus is one thing that kubeadm init would have set up.
type KubeadmPhaseStatus struct {
	// checksum of what was written.
	// +optional
	Checksum string `json:"checksum,omitempty"`

	// lastUpdate is when it was last changed.
	// +optional
	LastUpdate metav1.Time `json:"lastUpdate,omitempty"`
}

// AddonsStatus are the addons in the tenant cluster.
type AddonsStatus struct {
	// coreDNS is the cluster's name server.
	// +optional
	CoreDNS AddonStatus `json:"coreDNS,omitempty"`

	// kubeProxy implements Services on the nodes.
	// +optional
	KubeProxy AddonStatus `json:"kubeProxy,omitempty"`

	// konnectivity is the tunnel to the nodes.
	// +optional
	Konnectivity KonnectivityStatus `json:"konnectivity,omitempty"`
}

// AddonStatus is one addon.
type AddonStatus struct {
	// enabled tells whether the addon is installed.
	Enabled bool `json:"enabled"`

	// lastUpdate is when the addon was last changed.
	// +optional
	LastUpdate metav1.Time `json:"lastUpdate,omitempty"`
}

// KonnectivityStatus is the tunnel to the nodes.
type KonnectivityStatus struct {
	// enabled tells whether the tunnel is installed.
	Enabled bool `json:"enabled"`

	// configMap is the egress configuration of the API server.
	// +optional
	ConfigMap KonnectivityConfigMapStatus `json:"configMap,omitempty"`

	// certificate is the identity of the server in the tenant cluster.
	// +optional
	Certificate SecretStatus `json:"certificate,omitempty"`

	// kubeconfig of the server.
	// +optional
	Kubeconfig SecretStatus `json:"kubeconfig,omitempty"`

	// sa is the ServiceAccount of the agents.
	// +optional
	ServiceAccount TenantObjectStatus `json:"sa,omitempty"`

	// clusterrolebinding lets the server check the agents' tokens.
	// +optional
	ClusterRoleBinding TenantObjectStatus `json:"clusterrolebinding,omitempty"`

	// agent is what runs the agents.
	// +optional
	Agent KonnectivityAgentStatus `json:"agent,omitempty"`

	// service that agents connect to.
	// +optional
	Service *KubernetesServiceStatus `json:"service,omitempty"`

	// gateway that agents connect to.
	// +optional
	Gateway *KubernetesGatewayStatus `json:"gateway,omitempty"`
}

// KonnectivityConfigMapStatus refers to the egress configuration.
type KonnectivityConfigMapStatus struct {
	// name of the ConfigMap.
	// +optional
	Name string `json:"name,omitempty"`

	// checksum of its data.
	// +optional
	Checksum string `json:"checksum,omitempty"`
}

// TenantObjectStatus refers to an object in the tenant cluster.
type TenantObjectStatus struct {
	// name of the object.
	// +optional
	Name string `json:"name,omitempty"`

	// namespace of the object.
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// lastUpdate is when it was last changed.
	// +optional
	LastUpdate metav1.Time `json:"lastUpdate,omitempty"`
}

// KonnectivityAgentStatus is what runs the agents.
type KonnectivityAgentStatus struct {
	TenantObjectStatus `json:",inline"`

	// mode is the kind of object.
	// +optional
	Mode KonnectivityAgentMode `json:"mode,omitempty"`
}
