// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// AdditionalMetadata is added to a managed object.
type AdditionalMetadata struct {
	// labels to add. Labels of the engine itself can't be overridden.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// annotations to add. Annotations of the engine itself can't be overridden.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// ControlPlane is how the components run and how they are reached.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.ingress) && has(self.gateway))",message="ingress and gateway exclude each other"
// +kubebuilder:validation:XValidation:rule="!(has(self.kamajiGateway) && (has(self.ingress) || has(self.gateway)))",message="kamajiGateway excludes ingress and gateway"
type ControlPlane struct {
	// deployment is the Deployment with the components.
	// +kubebuilder:default={}
	// +optional
	Deployment DeploymentSpec `json:"deployment,omitempty"`

	// service is the Service in front of them.
	Service ServiceSpec `json:"service"`

	// ingress publishes the API server through an ingress controller that passes TLS through.
	// +optional
	Ingress *IngressSpec `json:"ingress,omitempty"`

	// gateway publishes the API server by a TLSRoute of the Gateway API.
	// +optional
	Gateway *GatewaySpec `json:"gateway,omitempty"`

	// kamajiGateway publishes the API server through a KamajiGateway, which routes
	// by server name and never terminates TLS.
	// +optional
	KamajiGateway *KamajiGatewaySpec `json:"kamajiGateway,omitempty"`
}

// DeploymentSpec is the Deployment with the components of the control plane.
type DeploymentSpec struct {
	// registrySettings says where images come from.
	// +kubebuilder:default={registry:"registry.k8s.io",apiServerImage:"kube-apiserver",controllerManagerImage:"kube-controller-manager",schedulerImage:"kube-scheduler"}
	// +optional
	RegistrySettings RegistrySettings `json:"registrySettings,omitempty"`

	// replicas is the number of pods, each with all components. With 0 the control plane sleeps.
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=0
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// nodeSelector of the pods.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// tolerations of the pods.
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// affinity of the pods.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`

	// topologySpreadConstraints of the pods. Where labelSelector is missing, the
	// pods of this control plane are selected.
	// +optional
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`

	// runtimeClassName of the pods.
	// +optional
	RuntimeClassName string `json:"runtimeClassName,omitempty"`

	// strategy of the Deployment. The default starts all new pods before it stops old ones.
	// +kubebuilder:default={type:"RollingUpdate",rollingUpdate:{maxUnavailable:0,maxSurge:"100%"}}
	// +optional
	Strategy appsv1.DeploymentStrategy `json:"strategy,omitempty"`

	// resources of the containers.
	// +optional
	Resources *ControlPlaneComponentsResources `json:"resources,omitempty"`

	// extraArgs of the components, in the form --name=value.
	// +optional
	ExtraArgs *ControlPlaneExtraArgs `json:"extraArgs,omitempty"`

	// additionalMetadata of the Deployment.
	// +optional
	AdditionalMetadata AdditionalMetadata `json:"additionalMetadata,omitempty"`

	// podAdditionalMetadata of the pods.
	// +optional
	PodAdditionalMetadata AdditionalMetadata `json:"podAdditionalMetadata,omitempty"`

	// additionalInitContainers run before the components. One that is named as a
	// managed init container replaces the image of that.
	// +optional
	AdditionalInitContainers []corev1.Container `json:"additionalInitContainers,omitempty"`

	// additionalContainers run beside the components. One that is named as a
	// managed container replaces the image of that.
	// +optional
	AdditionalContainers []corev1.Container `json:"additionalContainers,omitempty"`

	// additionalVolumes of the pods.
	// +optional
	AdditionalVolumes []corev1.Volume `json:"additionalVolumes,omitempty"`

	// additionalVolumeMounts of the components.
	// +optional
	AdditionalVolumeMounts *AdditionalVolumeMounts `json:"additionalVolumeMounts,omitempty"`

	// probes of the components.
	// +optional
	Probes *ControlPlaneProbes `json:"probes,omitempty"`

	// serviceAccountName of the pods.
	// +kubebuilder:default=default
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// automountServiceAccountToken puts a token of the management cluster in the
	// pods. The components don't need one, and the default is false.
	// +optional
	AutomountServiceAccountToken *bool `json:"automountServiceAccountToken,omitempty"`

	// containerSecurityContexts replace the restricted default of single containers.
	// +optional
	ContainerSecurityContexts *ContainerSecurityContexts `json:"containerSecurityContexts,omitempty"`

	// podSecurityContext replaces the restricted default of the pods.
	// +optional
	PodSecurityContext *corev1.PodSecurityContext `json:"podSecurityContext,omitempty"`
}

// RegistrySettings says where images come from: registry/image:version+suffix.
type RegistrySettings struct {
	// registry and path in front of the image names.
	// +kubebuilder:default=registry.k8s.io
	// +optional
	Registry string `json:"registry,omitempty"`

	// tagSuffix is appended to the version.
	// +optional
	TagSuffix string `json:"tagSuffix,omitempty"`

	// apiServerImage is the name of the image of kube-apiserver.
	// +kubebuilder:default=kube-apiserver
	// +optional
	APIServerImage string `json:"apiServerImage,omitempty"`

	// controllerManagerImage is the name of the image of kube-controller-manager.
	// +kubebuilder:default=kube-controller-manager
	// +optional
	ControllerManagerImage string `json:"controllerManagerImage,omitempty"`

	// schedulerImage is the name of the image of kube-scheduler.
	// +kubebuilder:default=kube-scheduler
	// +optional
	SchedulerImage string `json:"schedulerImage,omitempty"`
}

// ControlPlaneComponentsResources are the resources of the containers.
type ControlPlaneComponentsResources struct {
	// apiServer is for kube-apiserver.
	// +optional
	APIServer *corev1.ResourceRequirements `json:"apiServer,omitempty"`

	// controllerManager is for kube-controller-manager.
	// +optional
	ControllerManager *corev1.ResourceRequirements `json:"controllerManager,omitempty"`

	// scheduler is for kube-scheduler.
	// +optional
	Scheduler *corev1.ResourceRequirements `json:"scheduler,omitempty"`

	// kine is for the storage shim, when the DataStore needs one.
	// +optional
	Kine *corev1.ResourceRequirements `json:"kine,omitempty"`
}

// ControlPlaneExtraArgs are arguments in the form --name=value. Arguments that the
// engine must control in kube-apiserver and kube-scheduler are ignored; in
// kube-controller-manager and kine these come last and win.
type ControlPlaneExtraArgs struct {
	// apiServer is for kube-apiserver.
	// +optional
	APIServer []string `json:"apiServer,omitempty"`

	// controllerManager is for kube-controller-manager.
	// +optional
	ControllerManager []string `json:"controllerManager,omitempty"`

	// scheduler is for kube-scheduler.
	// +optional
	Scheduler []string `json:"scheduler,omitempty"`

	// kine is for the storage shim, when the DataStore needs one.
	// +optional
	Kine []string `json:"kine,omitempty"`
}

// AdditionalVolumeMounts are mounts of the components.
type AdditionalVolumeMounts struct {
	// apiServer is for kube-apiserver.
	// +optional
	APIServer []corev1.VolumeMount `json:"apiServer,omitempty"`

	// controllerManager is for kube-controller-manager.
	// +optional
	ControllerManager []corev1.VolumeMount `json:"controllerManager,omitempty"`

	// scheduler is for kube-scheduler.
	// +optional
	Scheduler []corev1.VolumeMount `json:"scheduler,omitempty"`
}

// ContainerSecurityContexts are the security contexts of the components.
type ContainerSecurityContexts struct {
	// apiServer is for kube-apiserver.
	// +optional
	APIServer *corev1.SecurityContext `json:"apiServer,omitempty"`

	// controllerManager is for kube-controller-manager.
	// +optional
	ControllerManager *corev1.SecurityContext `json:"controllerManager,omitempty"`

	// scheduler is for kube-scheduler.
	// +optional
	Scheduler *corev1.SecurityContext `json:"scheduler,omitempty"`
}

// ProbeSpec overrides the timing of a probe.
type ProbeSpec struct {
	// initialDelaySeconds before the first probe.
	// +kubebuilder:validation:Minimum=0
	// +optional
	InitialDelaySeconds *int32 `json:"initialDelaySeconds,omitempty"`

	// timeoutSeconds of one probe.
	// +kubebuilder:validation:Minimum=1
	// +optional
	TimeoutSeconds *int32 `json:"timeoutSeconds,omitempty"`

	// periodSeconds between probes.
	// +kubebuilder:validation:Minimum=1
	// +optional
	PeriodSeconds *int32 `json:"periodSeconds,omitempty"`

	// successThreshold is how many successes in a row make a success.
	// +kubebuilder:validation:Minimum=1
	// +optional
	SuccessThreshold *int32 `json:"successThreshold,omitempty"`

	// failureThreshold is how many failures in a row make a failure.
	// +kubebuilder:validation:Minimum=1
	// +optional
	FailureThreshold *int32 `json:"failureThreshold,omitempty"`
}

// ProbeSet are the probes of one component.
type ProbeSet struct {
	// liveness restarts the container when it fails.
	// +optional
	Liveness *ProbeSpec `json:"liveness,omitempty"`

	// readiness takes the pod out of the Service when it fails.
	// +optional
	Readiness *ProbeSpec `json:"readiness,omitempty"`

	// startup holds the others back until it has succeeded.
	// +optional
	Startup *ProbeSpec `json:"startup,omitempty"`
}

// ControlPlaneProbes overrides probes, of all components and of single ones; the latter win.
type ControlPlaneProbes struct {
	ProbeSet `json:",inline"`

	// apiServer is for kube-apiserver.
	// +optional
	APIServer *ProbeSet `json:"apiServer,omitempty"`

	// controllerManager is for kube-controller-manager.
	// +optional
	ControllerManager *ProbeSet `json:"controllerManager,omitempty"`

	// scheduler is for kube-scheduler.
	// +optional
	Scheduler *ProbeSet `json:"scheduler,omitempty"`
}

// ServiceType is how the Service is published.
//
// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
type ServiceType string

// The values of ServiceType.
const (
	ServiceTypeClusterIP    ServiceType = "ClusterIP"
	ServiceTypeNodePort     ServiceType = "NodePort"
	ServiceTypeLoadBalancer ServiceType = "LoadBalancer"
)

// ServiceSpec is the Service in front of the control plane.
//
// +kubebuilder:validation:XValidation:rule="!has(self.allocateLoadBalancerNodePorts) || self.serviceType == 'LoadBalancer'",message="allocateLoadBalancerNodePorts needs serviceType LoadBalancer"
type ServiceSpec struct {
	// serviceType is how the Service is published.
	ServiceType ServiceType `json:"serviceType"`

	// additionalMetadata of the Service.
	// +optional
	AdditionalMetadata AdditionalMetadata `json:"additionalMetadata,omitempty"`

	// additionalPorts of the Service.
	// +optional
	AdditionalPorts []AdditionalPort `json:"additionalPorts,omitempty"`

	// allocateLoadBalancerNodePorts can be turned off for load balancers that don't need node ports.
	// +optional
	AllocateLoadBalancerNodePorts *bool `json:"allocateLoadBalancerNodePorts,omitempty"`
}

// AdditionalPort is a further port of the Service.
type AdditionalPort struct {
	// name of the port, unique in the Service.
	Name string `json:"name"`

	// protocol of the port.
	// +kubebuilder:validation:Enum=TCP;UDP;SCTP
	// +kubebuilder:default=TCP
	// +optional
	Protocol corev1.Protocol `json:"protocol,omitempty"`

	// appProtocol is a hint about what is spoken on the port.
	// +optional
	AppProtocol *string `json:"appProtocol,omitempty"`

	// port of the Service.
	Port int32 `json:"port"`

	// targetPort is the number or name of the port of the pods.
	TargetPort intstr.IntOrString `json:"targetPort"`
}

// IngressSpec publishes the API server through an ingress controller.
type IngressSpec struct {
	// additionalMetadata of the Ingress, usually annotations that ask for TLS passthrough.
	// +optional
	AdditionalMetadata AdditionalMetadata `json:"additionalMetadata,omitempty"`

	// ingressClassName of the Ingress.
	// +optional
	IngressClassName string `json:"ingressClassName,omitempty"`

	// hostname of the API server, optionally with the port of the ingress controller.
	// +optional
	Hostname string `json:"hostname,omitempty"`
}

// GatewaySpec publishes the API server by a TLSRoute of the Gateway API.
type GatewaySpec struct {
	// additionalMetadata of the TLSRoute.
	// +optional
	AdditionalMetadata AdditionalMetadata `json:"additionalMetadata,omitempty"`

	// parentRefs are the Gateways the TLSRoute attaches to.
	// +optional
	GatewayParentRefs []gatewayv1.ParentReference `json:"parentRefs,omitempty"`

	// hostname of the API server.
	// +optional
	Hostname gatewayv1.Hostname `json:"hostname,omitempty"`
}

// WorkerEndpoint is the way in which nodes address the API server through a KamajiGateway.
//
// +kubebuilder:validation:Enum=HostsPin;TenantPort
type WorkerEndpoint string

// The values of WorkerEndpoint.
const (
	// WorkerEndpointHostsPin uses the host name that customers use. It resolves to
	// the private address of the gateway on the nodes, by an entry in /etc/hosts
	// or by DNS.
	WorkerEndpointHostsPin WorkerEndpoint = "HostsPin"

	// WorkerEndpointTenantPort uses the private address of the gateway and the
	// port that only this tenant has there. No name is involved.
	WorkerEndpointTenantPort WorkerEndpoint = "TenantPort"
)

// KamajiGatewaySpec publishes the API server through a KamajiGateway.
type KamajiGatewaySpec struct {
	// name of the KamajiGateway.
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`

	// hostname of the API server. It defaults to the name of the object followed
	// by the domain of the gateway, and is unique among the tenants of the gateway.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	// +optional
	Hostname string `json:"hostname,omitempty"`

	// additionalHostnames also reach the API server, from the public side only.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	// +listType=set
	// +optional
	AdditionalHostnames []string `json:"additionalHostnames,omitempty"`

	// workerEndpoint is how nodes address the API server.
	// +kubebuilder:default=HostsPin
	// +optional
	WorkerEndpoint WorkerEndpoint `json:"workerEndpoint,omitempty"`
}
