// SPDX-License-Identifier: Apache-2.0

package v1alpha2

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// KamajiControlPlaneFields are the settings that a KamajiControlPlane and its template share. Each goes to the field
// of the same meaning in the TenantControlPlane.
type KamajiControlPlaneFields struct {
	// dataStoreName is the DataStore that keeps the state; empty means the manager's default.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || !format.dns1123Subdomain().validate(self).hasValue()",message="dataStoreName must be the name of a DataStore"
	// +optional
	DataStoreName string `json:"dataStoreName,omitempty"`

	// dataStoreSelector selects DataStores by their labels, while dataStoreName is empty. The least used of those that
	// have room is taken, for good.
	// +optional
	DataStoreSelector *metav1.LabelSelector `json:"dataStoreSelector,omitempty"`

	// dataStoreSchema is the database name or etcd prefix, by default unique by itself.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="dataStoreSchema can't be changed"
	// +optional
	DataStoreSchema string `json:"dataStoreSchema,omitempty"`

	// dataStoreUsername is the datastore's user, by default unique by itself.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="dataStoreUsername can't be changed"
	// +optional
	DataStoreUsername string `json:"dataStoreUsername,omitempty"`

	// dataStoreOverrides keeps single resources, such as events, in another etcd. A
	// change is refused once there are objects, since they are not moved.
	// +kubebuilder:validation:MaxItems=32
	// +optional
	DataStoreOverrides []kamajiv1alpha1.DataStoreOverride `json:"dataStoreOverrides,omitempty"`

	// addons are installed in the cluster.
	// +optional
	Addons AddonsSpec `json:"addons,omitempty,omitzero"`

	// admissionControllers are enabled in the API server; NodeRestriction always is.
	// +optional
	AdmissionControllers []kamajiv1alpha1.AdmissionController `json:"admissionControllers,omitempty"`

	// registry that the images of the components come from.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^\S*$`
	// +kubebuilder:default="registry.k8s.io"
	// +optional
	Registry string `json:"registry,omitempty"`

	// registryTagSuffix is appended to the version in the tags of those images.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^\S*$`
	// +optional
	RegistryTagSuffix string `json:"registryTagSuffix,omitempty"`

	// writePermissions makes the cluster's API read-only in part or as a whole.
	// +optional
	WritePermissions kamajiv1alpha1.WritePermissions `json:"writePermissions,omitempty,omitzero"`

	// internalCACertificatesConfigMap names a ConfigMap in the namespace of the object whose values are PEM certificates
	// of authorities that the components shall trust when they call out.
	// +kubebuilder:validation:MinLength=1
	// +optional
	InternalCACertificatesConfigMap *string `json:"internalCACertificatesConfigMap,omitempty"`

	// certificates says where the cluster's authority comes from, when it isn't generated.
	// +optional
	Certificates *kamajiv1alpha1.CertificatesSpec `json:"certificates,omitempty"`

	// monitoring has the Prometheus operator read the metrics of all components, by a PodMonitor.
	// +optional
	Monitoring *kamajiv1alpha1.MonitoringSpec `json:"monitoring,omitempty"`

	// apiServer has settings of kube-apiserver.
	// +optional
	APIServer ComponentSpec `json:"apiServer,omitempty,omitzero"`

	// controllerManager has settings of kube-controller-manager.
	// +optional
	ControllerManager ComponentSpec `json:"controllerManager,omitempty,omitzero"`

	// scheduler has settings of kube-scheduler.
	// +optional
	Scheduler ComponentSpec `json:"scheduler,omitempty,omitzero"`

	// kine has settings of the storage shim, which stores other than etcd need.
	// +optional
	Kine KineSpec `json:"kine,omitempty,omitzero"`

	// kubelet is the configuration that joining nodes receive.
	// +kubebuilder:default={}
	// +optional
	Kubelet kamajiv1alpha1.KubeletSpec `json:"kubelet,omitempty,omitzero"`

	// network says how the API server is reached.
	// +kubebuilder:default={}
	// +optional
	Network NetworkSpec `json:"network,omitempty,omitzero"`

	// deployment says how the pods run.
	// +optional
	Deployment DeploymentSpec `json:"deployment,omitempty,omitzero"`
}

// AddonsSpec selects what is installed in the cluster. A missing member is not installed, an empty one with defaults.
type AddonsSpec struct {
	// coreDNS is the cluster's name server.
	// +optional
	CoreDNS *CoreDNSAddonSpec `json:"coreDNS,omitempty"`

	// konnectivity is the tunnel through which the API server reaches nodes, pods and services.
	// +optional
	Konnectivity *kamajiv1alpha1.KonnectivitySpec `json:"konnectivity,omitempty"`

	// kubeProxy implements Services on the nodes.
	// +optional
	KubeProxy *kamajiv1alpha1.AddonSpec `json:"kubeProxy,omitempty"`
}

// CoreDNSAddonSpec is an addon with addresses.
type CoreDNSAddonSpec struct {
	kamajiv1alpha1.AddonSpec `json:",inline"`

	// dnsServiceIPs are the addresses of the name server. network.dnsServiceIPs wins.
	// +kubebuilder:validation:MaxItems=8
	// +optional
	DNSServiceIPs []string `json:"dnsServiceIPs,omitempty"`
}

// ComponentSpec has settings of one container.
type ComponentSpec struct {
	// extraVolumeMounts of the container.
	// +optional
	ExtraVolumeMounts []corev1.VolumeMount `json:"extraVolumeMounts,omitempty"`

	// extraArgs in the form --name=value.
	// +optional
	ExtraArgs []string `json:"extraArgs,omitempty"`

	// resources of the container.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// containerImageName replaces the name of the image, without registry and tag.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^\S*$`
	// +optional
	ContainerImageName string `json:"containerImageName,omitempty"`

	// probes of the container. They win over deployment.probes.
	// +optional
	Probes *kamajiv1alpha1.ProbeSet `json:"probes,omitempty"`

	// securityContext replaces the restricted default of the container.
	// +optional
	SecurityContext *corev1.SecurityContext `json:"securityContext,omitempty"`
}

// KineSpec has settings of the storage shim.
type KineSpec struct {
	// extraArgs in the form --name=value.
	// +optional
	ExtraArgs []string `json:"extraArgs,omitempty"`

	// resources of the container.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`
}

// NetworkSpec says how the API server is reached.
//
// +kubebuilder:validation:XValidation:rule="!has(self.kamajiGateway) || !has(self.ingress)",message="kamajiGateway excludes ingress"
// +kubebuilder:validation:XValidation:rule="!has(self.kamajiGateway) || !has(self.gateway) || (has(self.kamajiGateway.exposure) && self.kamajiGateway.exposure == 'Private')",message="gateway beside kamajiGateway serves customers in place of its public address: set kamajiGateway.exposure to Private"
// +kubebuilder:validation:XValidation:rule="!has(self.loadBalancerConfig) || self.serviceType == 'LoadBalancer'",message="loadBalancerConfig needs serviceType LoadBalancer"
type NetworkSpec struct {
	// kamajiGateway publishes the API server through a KamajiGateway. The Service is then of type ClusterIP.
	// +optional
	KamajiGateway *kamajiv1alpha1.KamajiGatewaySpec `json:"kamajiGateway,omitempty"`

	// loadBalancerConfig applies to serviceType LoadBalancer.
	// +optional
	LoadBalancerConfig *LoadBalancerConfig `json:"loadBalancerConfig,omitempty"`

	// gateway publishes the API server by a TLSRoute of the Gateway API.
	// +optional
	Gateway *GatewayAPISpec `json:"gateway,omitempty"`

	// ingress publishes the API server through an ingress controller that passes TLS through.
	// +optional
	Ingress *IngressSpec `json:"ingress,omitempty"`

	// serviceType of the Service in front of the pods; ignored with kamajiGateway.
	// +kubebuilder:default=LoadBalancer
	// +optional
	ServiceType kamajiv1alpha1.ServiceType `json:"serviceType,omitempty"`

	// serviceAddress is the address of the API server, where it is known beforehand.
	// +optional
	ServiceAddress string `json:"serviceAddress,omitempty"`

	// allowAddressAsExternalIP lists serviceAddress among the external IPs of the Service (ClusterIP and NodePort only).
	// +optional
	AllowAddressAsExternalIP bool `json:"allowAddressAsExternalIP,omitempty"`

	// advertiseAddress is where nodes reach the API server, if that is another address.
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || isIP(self)",message="advertiseAddress must be an IP address"
	// +kubebuilder:validation:MaxLength=45
	// +optional
	AdvertiseAddress string `json:"advertiseAddress,omitempty"`

	// serviceLabels are added to the Service.
	// +optional
	ServiceLabels map[string]string `json:"serviceLabels,omitempty"`

	// serviceAnnotations are added to the Service.
	// +optional
	ServiceAnnotations map[string]string `json:"serviceAnnotations,omitempty"`

	// additionalServicePorts of the Service.
	// +optional
	AdditionalServicePorts []kamajiv1alpha1.AdditionalPort `json:"additionalServicePorts,omitempty"`

	// certSANs are further names and addresses in the certificate of the API server.
	// +optional
	CertSANs []string `json:"certSANs,omitempty"`

	// dnsServiceIPs are the addresses of the name server for pods.
	// +kubebuilder:validation:MaxItems=8
	// +optional
	DNSServiceIPs []string `json:"dnsServiceIPs,omitempty"`
}

// LoadBalancerConfig applies to Services of type LoadBalancer.
type LoadBalancerConfig struct {
	// sourceRanges that may connect, where the load balancer supports it.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="self.all(c, isCIDR(c))",message="sourceRanges must be network ranges"
	// +optional
	SourceRanges []string `json:"sourceRanges,omitempty"`

	// class selects the implementation.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="class can't be changed"
	// +optional
	Class *string `json:"class,omitempty"`

	// allocateNodePorts can be turned off for load balancers that don't need node ports.
	// +optional
	AllocateNodePorts *bool `json:"allocateNodePorts,omitempty"`
}

// GatewayAPISpec attaches a TLSRoute to a Gateway of the Gateway API.
type GatewayAPISpec struct {
	// name of the Gateway.
	// +required
	Name string `json:"name"`
	// namespace of the Gateway; empty means that of the KamajiControlPlane.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// hostname of the API server.
	// +required
	Hostname string `json:"hostname"`
	// sectionName of the Gateway's listener.
	// +optional
	SectionName string `json:"sectionName,omitempty"`
	// port of the Gateway's listener.
	// +optional
	Port int32 `json:"port,omitempty"`
	// extraLabels of the TLSRoute.
	// +optional
	ExtraLabels map[string]string `json:"extraLabels,omitempty"`
	// extraAnnotations of the TLSRoute.
	// +optional
	ExtraAnnotations map[string]string `json:"extraAnnotations,omitempty"`
}

// IngressSpec publishes the API server through an ingress controller.
type IngressSpec struct {
	// className of the Ingress.
	// +optional
	ClassName string `json:"className,omitempty"`
	// hostname of the API server, with an optional port.
	// +required
	Hostname string `json:"hostname"`
	// extraLabels of the Ingress.
	// +optional
	ExtraLabels map[string]string `json:"extraLabels,omitempty"`
	// extraAnnotations of the Ingress.
	// +optional
	ExtraAnnotations map[string]string `json:"extraAnnotations,omitempty"`
}

// DeploymentSpec says how the control plane pods run.
type DeploymentSpec struct {
	// nodeSelector of the pods.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// runtimeClassName of the pods.
	// +optional
	RuntimeClassName string `json:"runtimeClassName,omitempty"`
	// priorityClassName of the pods.
	// +optional
	PriorityClassName string `json:"priorityClassName,omitempty"`

	// additionalMetadata of the Deployment.
	// +optional
	AdditionalMetadata kamajiv1alpha1.AdditionalMetadata `json:"additionalMetadata,omitempty,omitzero"`
	// podAdditionalMetadata of the pods.
	// +optional
	PodAdditionalMetadata kamajiv1alpha1.AdditionalMetadata `json:"podAdditionalMetadata,omitempty,omitzero"`
	// serviceAccountName of the pods.
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
	// automountServiceAccountToken puts a token of the management cluster in the pods. The components don't need one.
	// +optional
	AutomountServiceAccountToken *bool `json:"automountServiceAccountToken,omitempty"`

	// podSecurityContext replaces the restricted default of the pods.
	// +optional
	PodSecurityContext *corev1.PodSecurityContext `json:"podSecurityContext,omitempty"`

	// strategy of the Deployment.
	// +optional
	Strategy *appsv1.DeploymentStrategy `json:"strategy,omitempty"`
	// affinity of the pods.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`
	// tolerations of the pods.
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// topologySpreadConstraints of the pods.
	// +optional
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
	// extraInitContainers of the pods.
	// +optional
	ExtraInitContainers []corev1.Container `json:"extraInitContainers,omitempty"`
	// extraContainers of the pods.
	// +optional
	ExtraContainers []corev1.Container `json:"extraContainers,omitempty"`
	// extraVolumes of the pods.
	// +optional
	ExtraVolumes []corev1.Volume `json:"extraVolumes,omitempty"`
	// probes of all components.
	// +optional
	Probes *kamajiv1alpha1.ProbeSet `json:"probes,omitempty"`
	// externalClusterReference of Kamaji's provider is refused: control planes run in the management cluster.
	// +optional
	ExternalClusterReference *ExternalClusterReference `json:"externalClusterReference,omitempty"`
}

// ExternalClusterReference asks for pods in another cluster than the management cluster. The field exists so that a
// manifest with it is refused: an unknown field would be dropped, and the control plane would run in the wrong cluster.
//
// +kubebuilder:validation:XValidation:rule="false",message="control planes in another cluster are not supported by this release: remove externalClusterReference, or keep Kamaji's own provider for this control plane"
type ExternalClusterReference struct {
	// kubeconfigSecretName is the Secret with the kubeconfig of the other cluster.
	// +optional
	KubeconfigSecretName string `json:"kubeconfigSecretName,omitempty"`
	// kubeconfigSecretKey is the key in that Secret.
	// +optional
	KubeconfigSecretKey string `json:"kubeconfigSecretKey,omitempty"`
	// kubeconfigSecretNamespace is the namespace of that Secret.
	// +optional
	KubeconfigSecretNamespace string `json:"kubeconfigSecretNamespace,omitempty"`
	// deploymentNamespace is the namespace of the pods in the other cluster.
	// +optional
	DeploymentNamespace string `json:"deploymentNamespace,omitempty"`
}
