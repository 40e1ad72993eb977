// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
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
// +kubebuilder:validation:XValidation:rule="!(has(self.kamajiGateway) && has(self.ingress))",message="kamajiGateway excludes ingress"
// +kubebuilder:validation:XValidation:rule="!(has(self.kamajiGateway) && has(self.gateway)) || (has(self.kamajiGateway.exposure) && self.kamajiGateway.exposure == 'Private')",message="gateway beside kamajiGateway serves customers in place of its public address: set kamajiGateway.exposure to Private"
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

	// gateway publishes the API server by a TLSRoute of the Gateway API. Beside a
	// kamajiGateway with exposure Private it serves customers, and that one nodes.
	// +optional
	Gateway *GatewaySpec `json:"gateway,omitempty"`

	// kamajiGateway publishes the API server through a KamajiGateway, which routes
	// by server name and never terminates TLS.
	// +optional
	KamajiGateway *KamajiGatewaySpec `json:"kamajiGateway,omitempty"`

	// monitoring has the Prometheus operator read the metrics of all components, by
	// a PodMonitor.
	// +optional
	Monitoring *MonitoringSpec `json:"monitoring,omitempty"`
}

// MonitoringSpec is the PodMonitor of a control plane.
type MonitoringSpec struct {
	// additionalMetadata of the PodMonitor. A Prometheus picks PodMonitors by label,
	// that of kube-prometheus-stack by release: <name of the Helm release>.
	// +optional
	AdditionalMetadata AdditionalMetadata `json:"additionalMetadata,omitempty"`

	// interval from one scrape to the next, such as 30s. The default is Prometheus's own.
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([1-9][0-9]*(ms|s|m|h))?$`
	// +optional
	Interval string `json:"interval,omitempty"`
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

	// priorityClassName of the pods. The default is the manager's --priority-class.
	// +optional
	PriorityClassName string `json:"priorityClassName,omitempty"`

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
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^\S*$`
	// +kubebuilder:default=registry.k8s.io
	// +optional
	Registry string `json:"registry,omitempty"`

	// tagSuffix is appended to the version.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^\S*$`
	// +optional
	TagSuffix string `json:"tagSuffix,omitempty"`

	// apiServerImage is the name of the image of kube-apiserver.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^\S*$`
	// +kubebuilder:default=kube-apiserver
	// +optional
	APIServerImage string `json:"apiServerImage,omitempty"`

	// controllerManagerImage is the name of the image of kube-controller-manager.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^\S*$`
	// +kubebuilder:default=kube-controller-manager
	// +optional
	ControllerManagerImage string `json:"controllerManagerImage,omitempty"`

	// schedulerImage is the name of the image of kube-scheduler.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^\S*$`
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
