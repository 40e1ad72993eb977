// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TenantControlPlane is a Kubernetes control plane that runs as pods in the
// namespace of the object.
//
// Its overrides are frozen from the moment on at which the datastore holds something of it.
//
// +kubebuilder:object:root=true
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.storage) || !has(oldSelf.status.storage.setup) || !has(oldSelf.status.storage.setup.schema) || (has(self.spec.dataStoreOverrides) == has(oldSelf.spec.dataStoreOverrides) && (!has(self.spec.dataStoreOverrides) || self.spec.dataStoreOverrides == oldSelf.spec.dataStoreOverrides))",fieldPath=".spec.dataStoreOverrides",message="can't be changed, added or removed once the tenant has state: this release does not move objects that exist, so they would no longer be seen. Set it back to what the stored object has"
// +kubebuilder:resource:shortName=tcp,categories=kamaji
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.controlPlane.deployment.replicas,statuspath=.status.kubernetesResources.deployment.replicas,selectorpath=.status.kubernetesResources.deployment.selector
// +kubebuilder:printcolumn:name="Version",type="string",JSONPath=".spec.kubernetes.version",description="Kubernetes version"
// +kubebuilder:printcolumn:name="Installed Version",type="string",JSONPath=".status.kubernetesResources.version.version",description="The Kubernetes version that is running"
// +kubebuilder:printcolumn:name="Status",type="string",JSONPath=".status.kubernetesResources.version.status",description="Phase of the control plane"
// +kubebuilder:printcolumn:name="Control-Plane endpoint",type="string",JSONPath=".status.controlPlaneEndpoint",description="Host and port of the API server"
// +kubebuilder:printcolumn:name="Kubeconfig",type="string",JSONPath=".status.kubeconfig.admin.secretName",description="Secret with the admin kubeconfig"
// +kubebuilder:printcolumn:name="Datastore",type="string",JSONPath=".status.storage.dataStoreName",description="DataStore in use"
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp",description="Age"
type TenantControlPlane struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   TenantControlPlaneSpec   `json:"spec,omitempty"`
	Status TenantControlPlaneStatus `json:"status,omitempty"`
}

// TenantControlPlaneList is a list of TenantControlPlanes.
//
// +kubebuilder:object:root=true
type TenantControlPlaneList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []TenantControlPlane `json:"items"`
}

// TenantControlPlaneSpec is the wanted control plane.
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.dataStore) || has(self.dataStore)",message="dataStore can't be removed once it is set"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.dataStoreSchema) || has(self.dataStoreSchema)",message="dataStoreSchema can't be removed once it is set"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.dataStoreUsername) || has(self.dataStoreUsername)",message="dataStoreUsername can't be removed once it is set"
// +kubebuilder:validation:XValidation:rule="!has(self.networkProfile) || !has(self.networkProfile.loadBalancerSourceRanges) || size(self.networkProfile.loadBalancerSourceRanges) == 0 || self.controlPlane.service.serviceType == 'LoadBalancer'",message="loadBalancerSourceRanges needs serviceType LoadBalancer"
// +kubebuilder:validation:XValidation:rule="!has(self.networkProfile) || !has(self.networkProfile.loadBalancerClass) || self.controlPlane.service.serviceType == 'LoadBalancer'",message="loadBalancerClass needs serviceType LoadBalancer"
// +kubebuilder:validation:XValidation:rule="self.controlPlane.service.serviceType != 'LoadBalancer' || oldSelf.controlPlane.service.serviceType != 'LoadBalancer' || (has(self.networkProfile) && has(self.networkProfile.loadBalancerClass)) == (has(oldSelf.networkProfile) && has(oldSelf.networkProfile.loadBalancerClass))",message="loadBalancerClass can't be added or removed while serviceType is LoadBalancer"
type TenantControlPlaneSpec struct {
	// dataStore is the name of the DataStore that keeps the state. A change moves
	// the state there; writes are refused meanwhile.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || !format.dns1123Subdomain().validate(self).hasValue()",message="dataStore must be the name of a DataStore"
	// +optional
	DataStore string `json:"dataStore,omitempty"`

	// dataStoreSelector selects DataStores by their labels. While dataStore is empty
	// the engine picks the least used of those that have room, and writes its name
	// there; after that the selector decides nothing.
	// +optional
	DataStoreSelector *metav1.LabelSelector `json:"dataStoreSelector,omitempty"`

	// dataStoreSchema is the name of the tenant's database, or the key prefix in
	// etcd. The webhook gives it a random name, and without the webhook it is the
	// UID of the object.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="dataStoreSchema can't be changed"
	// +optional
	DataStoreSchema string `json:"dataStoreSchema,omitempty"`

	// dataStoreUsername is the name of the tenant's user in the datastore. The
	// webhook sets it to the schema, without dashes if that is random, and without
	// the webhook it is the UID of the object.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="dataStoreUsername can't be changed"
	// +optional
	DataStoreUsername string `json:"dataStoreUsername,omitempty"`

	// dataStoreOverrides keeps single resources, such as events, in another etcd.
	// Objects that exist are not moved, so a change is refused once there are some.
	// +kubebuilder:validation:MaxItems=32
	// +optional
	DataStoreOverrides []DataStoreOverride `json:"dataStoreOverrides,omitempty"`

	// writePermissions makes the tenant's API read-only in part or as a whole. The
	// API server itself enforces it, and nobody in the tenant can lift it. What runs
	// the cluster goes on: control plane, kubelets, addons in kube-system, Leases,
	// Events. A change replaces the pods.
	// +optional
	WritePermissions WritePermissions `json:"writePermissions,omitempty"`

	// controlPlane is how the components run and are reached.
	ControlPlane ControlPlane `json:"controlPlane"`

	// kubernetes is what they serve.
	Kubernetes KubernetesSpec `json:"kubernetes"`

	// networkProfile has addresses and network ranges of the tenant.
	// +kubebuilder:default={}
	// +optional
	NetworkProfile NetworkProfileSpec `json:"networkProfile,omitempty"`

	// addons are installed in the tenant cluster.
	// +optional
	Addons AddonsSpec `json:"addons,omitempty"`

	// internalCACertificatesConfigMap names a ConfigMap in the namespace of the
	// object whose values are PEM certificates of authorities that the components
	// shall trust when they call out, for example to OIDC issuers and webhooks.
	// The certificates that come with the images stay trusted.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || !format.dns1123Subdomain().validate(self).hasValue()",message="internalCACertificatesConfigMap must be the name of a ConfigMap"
	// +kubebuilder:validation:MinLength=1
	// +optional
	InternalCACertificatesConfigMap *string `json:"internalCACertificatesConfigMap,omitempty"`

	// certificates says where certificates come from.
	// +optional
	Certificates *CertificatesSpec `json:"certificates,omitempty"`
}

// DataStoreOverride keeps one resource in another DataStore.
type DataStoreOverride struct {
	// resource as in the flag etcd-servers-overrides: /events or apps/deployments.
	// +kubebuilder:validation:MaxLength=253
	Resource string `json:"resource"`

	// dataStore is the name of a DataStore with the driver etcd.
	// +kubebuilder:validation:MaxLength=253
	DataStore string `json:"dataStore"`
}

// WritePermissions blocks kinds of writes to the tenant's API.
type WritePermissions struct {
	// blockCreation refuses to create objects.
	// +optional
	BlockCreation bool `json:"blockCreation,omitempty"`

	// blockUpdate refuses to change objects.
	// +optional
	BlockUpdate bool `json:"blockUpdate,omitempty"`

	// blockDeletion refuses to delete objects.
	// +optional
	BlockDeletion bool `json:"blockDeletion,omitempty"`
}

// KubernetesSpec is the version and configuration of the tenant's Kubernetes.
type KubernetesSpec struct {
	// version of Kubernetes, such as v1.36.3. The leading v may be left out.
	// +kubebuilder:validation:MinLength=1
	Version string `json:"version"`

	// kubelet is the configuration that joining nodes receive.
	Kubelet KubeletSpec `json:"kubelet"`

	// admissionControllers are enabled in the API server. NodeRestriction is
	// enabled in any case, unless an argument disables it.
	// +kubebuilder:default={"CertificateApproval","CertificateSigning","CertificateSubjectRestriction","DefaultIngressClass","DefaultStorageClass","DefaultTolerationSeconds","LimitRanger","MutatingAdmissionWebhook","NamespaceLifecycle","PersistentVolumeClaimResize","Priority","ResourceQuota","RuntimeClass","ServiceAccount","StorageObjectInUseProtection","TaintNodesByCondition","ValidatingAdmissionWebhook"}
	// +optional
	AdmissionControllers []AdmissionController `json:"admissionControllers,omitempty"`
}

// AdmissionController is the name of an admission plugin of the API server.
//
// +kubebuilder:validation:Enum=AlwaysAdmit;AlwaysDeny;AlwaysPullImages;CertificateApproval;CertificateSigning;CertificateSubjectRestriction;ClusterTrustBundleAttest;DefaultIngressClass;DefaultStorageClass;DefaultTolerationSeconds;DenyEscalatingExec;DenyExecOnPrivileged;DenyServiceExternalIPs;EventRateLimit;ExtendedResourceToleration;ImagePolicyWebhook;LimitPodHardAntiAffinityTopology;LimitRanger;MutatingAdmissionPolicy;MutatingAdmissionWebhook;NamespaceAutoProvision;NamespaceExists;NamespaceLifecycle;NodeRestriction;OwnerReferencesPermissionEnforcement;PersistentVolumeClaimResize;PersistentVolumeLabel;PodNodeSelector;PodSecurity;PodSecurityPolicy;PodTolerationRestriction;PodTopologyLabels;Priority;ResourceQuota;RuntimeClass;SecurityContextDeny;ServiceAccount;StorageObjectInUseProtection;TaintNodesByCondition;ValidatingAdmissionPolicy;ValidatingAdmissionWebhook
type AdmissionController string

// KubeletSpec is the configuration of the kubelets of the tenant.
type KubeletSpec struct {
	// cgroupfs is the cgroup driver of the kubelet.
	//
	// Deprecated: use configurationJSONPatches; the kubelet asks the container
	// runtime by itself.
	// +optional
	CGroupFS CGroupDriver `json:"cgroupfs,omitempty"`

	// configurationJSONPatches change the KubeletConfiguration that joining nodes
	// download (RFC 6902).
	// +optional
	ConfigurationJSONPatches []JSONPatch `json:"configurationJSONPatches,omitempty"`

	// preferredAddressTypes is the order in which the API server tries addresses
	// of a node.
	// +kubebuilder:default={"InternalIP","ExternalIP","Hostname"}
	// +kubebuilder:validation:MinItems=1
	// +listType=set
	// +optional
	PreferredAddressTypes []KubeletPreferredAddressType `json:"preferredAddressTypes,omitempty"`
}

// CGroupDriver is the cgroup driver of a kubelet.
//
// +kubebuilder:validation:Enum=systemd;cgroupfs
type CGroupDriver string

// KubeletPreferredAddressType is a kind of address in a node's status.
//
// +kubebuilder:validation:Enum=Hostname;InternalIP;ExternalIP;InternalDNS;ExternalDNS
type KubeletPreferredAddressType string

// AddonsSpec selects what is installed in the tenant cluster. A missing member
// is not installed, an empty one is installed with default settings.
type AddonsSpec struct {
	// coreDNS is the cluster's name server.
	// +optional
	CoreDNS *AddonSpec `json:"coreDNS,omitempty"`

	// konnectivity is the tunnel through which the API server reaches nodes, pods and services.
	// +optional
	Konnectivity *KonnectivitySpec `json:"konnectivity,omitempty"`

	// kubeProxy implements Services on the nodes.
	// +optional
	KubeProxy *AddonSpec `json:"kubeProxy,omitempty"`
}

// AddonSpec overrides the image of an addon.
type AddonSpec struct {
	// imageRepository is the registry and path in front of the image name.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^\S*$`
	// +optional
	ImageRepository string `json:"imageRepository,omitempty"`

	// imageTag replaces the default tag for the tenant's version.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^\S*$`
	// +optional
	ImageTag string `json:"imageTag,omitempty"`
}
