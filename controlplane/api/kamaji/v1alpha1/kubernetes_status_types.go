// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// KubernetesStatus are the objects that run and publish the components.
type KubernetesStatus struct {
	// version that is running, and the phase of the control plane.
	// +optional
	Version KubernetesVersionStatus `json:"version,omitempty"`

	// deployment with the components.
	// +optional
	Deployment KubernetesDeploymentStatus `json:"deployment,omitempty"`

	// service in front of them.
	// +optional
	Service KubernetesServiceStatus `json:"service,omitempty"`

	// ingress that publishes the API server.
	// +optional
	Ingress *KubernetesIngressStatus `json:"ingress,omitempty"`

	// gateway that publishes the API server.
	// +optional
	Gateway *KubernetesGatewayStatus `json:"gateway,omitempty"`
}

// VersionPhase is the phase of a control plane.
//
// +kubebuilder:validation:Enum=Unknown;Provisioning;CertificateAuthorityRotating;Upgrading;Migrating;Ready;NotReady;Sleeping;WriteLimited
type VersionPhase string

// The values of VersionPhase.
const (
	// PhaseUnknown: none of the others can be told.
	PhaseUnknown VersionPhase = "Unknown"
	// PhaseProvisioning: the control plane has not served yet.
	PhaseProvisioning VersionPhase = "Provisioning"
	// PhaseCertificateAuthorityRotating: the certificate authority is being replaced.
	PhaseCertificateAuthorityRotating VersionPhase = "CertificateAuthorityRotating"
	// PhaseUpgrading: another version is being rolled out.
	PhaseUpgrading VersionPhase = "Upgrading"
	// PhaseMigrating: the state is being moved to another DataStore.
	PhaseMigrating VersionPhase = "Migrating"
	// PhaseReady: the control plane serves, in the wanted version.
	PhaseReady VersionPhase = "Ready"
	// PhaseNotReady: no pod is ready.
	PhaseNotReady VersionPhase = "NotReady"
	// PhaseSleeping: scaled to zero on request.
	PhaseSleeping VersionPhase = "Sleeping"
	// PhaseWriteLimited: serves, and all pods refuse writes as writePermissions demands.
	PhaseWriteLimited VersionPhase = "WriteLimited"
)

// KubernetesVersionStatus is the version that is running.
type KubernetesVersionStatus struct {
	// version that all pods run.
	// +optional
	Version string `json:"version,omitempty"`

	// status is the phase of the control plane.
	// +kubebuilder:default=Provisioning
	// +optional
	Status *VersionPhase `json:"status,omitempty"`
}

// KubernetesDeploymentStatus mirrors the Deployment.
type KubernetesDeploymentStatus struct {
	appsv1.DeploymentStatus `json:",inline"`

	// selector of the pods, for autoscalers.
	Selector string `json:"selector"`

	// name of the Deployment.
	Name string `json:"name"`

	// namespace of the Deployment.
	Namespace string `json:"namespace"`

	// lastUpdate is when the status last changed.
	// +optional
	LastUpdate metav1.Time `json:"lastUpdate,omitempty"`
}

// KubernetesServiceStatus mirrors the Service.
type KubernetesServiceStatus struct {
	corev1.ServiceStatus `json:",inline"`

	// name of the Service.
	Name string `json:"name"`

	// namespace of the Service.
	Namespace string `json:"namespace"`

	// port of the API server.
	Port int32 `json:"port"`
}

// KubernetesIngressStatus mirrors the Ingress.
type KubernetesIngressStatus struct {
	networkingv1.IngressStatus `json:",inline"`

	// name of the Ingress.
	Name string `json:"name"`

	// namespace of the Ingress.
	Namespace string `json:"namespace"`
}

// KubernetesGatewayStatus mirrors a TLSRoute.
type KubernetesGatewayStatus struct {
	gatewayv1.RouteStatus `json:",inline"`

	// routeRef is the TLSRoute.
	// +optional
	RouteRef corev1.LocalObjectReference `json:"routeRef,omitempty"`

	// accessPoints are the addresses of the route.
	// +optional
	AccessPoints []GatewayAccessPoint `json:"accessPoints,omitempty"`
}

// GatewayAccessPoint is an address of a route.
type GatewayAccessPoint struct {
	// type of the address.
	// +optional
	Type *gatewayv1.AddressType `json:"type,omitempty"`

	// value of the address.
	Value string `json:"value"`

	// port of the listener.
	Port int32 `json:"port"`

	// urls that reach the route there.
	// +optional
	URLs []string `json:"urls,omitempty"`
}
