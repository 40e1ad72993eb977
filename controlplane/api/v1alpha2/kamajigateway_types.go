// SPDX-License-Identifier: Apache-2.0

package v1alpha2

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// GatewayFinalizer holds a KamajiGateway until no tenant is reached through it.
const GatewayFinalizer = "controlplane.cluster.x-k8s.io/kamajigateway"

// Condition types of a KamajiGateway; all but Deleting are positive.
const (
	// GatewayDeletingCondition says what the deletion of a gateway waits for.
	GatewayDeletingCondition = "Deleting"
	// GatewayReadyCondition sums up the others: tenants that choose this gateway can be reached through it.
	GatewayReadyCondition = "Ready"
	// GatewayAddressesValidCondition says that addresses, port and tenant ports fit together and collide with no other gateway.
	GatewayAddressesValidCondition = "AddressesValid"
	// GatewayCertificateValidCondition says that the data plane has a certificate with which it can follow the managers.
	GatewayCertificateValidCondition = "CertificateValid"
	// GatewayDataPlaneReadyCondition says that at least one data plane instance is ready to take connections.
	GatewayDataPlaneReadyCondition = "DataPlaneReady"
)

// GatewayAddressReadyCondition is the condition that the gateway sets on a TenantControlPlane which names a KamajiGateway:
// host name and port are allocated, and status.kamajiGateway says where the tenant is reached.
const GatewayAddressReadyCondition = "GatewayAddressReady"

// Reasons of GatewayAddressReadyCondition.
const (
	// GatewayNotFoundReason: no KamajiGateway has the name that the tenant asks for.
	GatewayNotFoundReason = "GatewayNotFound"
	// HostnameInvalidReason: a host name of the tenant can't be a TLS server name.
	HostnameInvalidReason = "HostnameInvalid"
	// HostnameConflictReason: another tenant of the gateway already has one of the host names.
	HostnameConflictReason = "HostnameConflict"
	// PortsExhaustedReason: every port of the gateway's range is taken, or was released less than 24 hours ago.
	PortsExhaustedReason = "PortsExhausted"
)

// Reasons of the conditions of a KamajiGateway.
const (
	// GatewayAddressConflictReason: another, older gateway already has one of the addresses.
	GatewayAddressConflictReason = "AddressConflict"
	// GatewayCertificatePendingReason: cert-manager has not issued the data plane's certificate yet.
	GatewayCertificatePendingReason = "CertificatePending"
	// GatewayCertificateExpiredReason: the data plane's certificate was not renewed in time.
	GatewayCertificateExpiredReason = "CertificateExpired"
	// GatewayDataPlaneNotReadyReason: no instance of the data plane is ready yet.
	GatewayDataPlaneNotReadyReason = "NoInstanceReady"
	// GatewayNoNodeReason: no node matches the data plane's node selector and tolerations.
	GatewayNoNodeReason = "NoMatchingNode"
	// GatewayInUseReason: tenants are still reached through the gateway.
	GatewayInUseReason = "InUse"
	// GatewayExternalReason: the data plane runs outside the management cluster and connects by itself.
	GatewayExternalReason = "External"
)

// DataPlaneType names the program that forwards connections.
//
// +kubebuilder:validation:Enum=Embedded;Envoy
type DataPlaneType string

const (
	// DataPlaneEmbedded is kamaji-gateway, the data plane of this project.
	DataPlaneEmbedded DataPlaneType = "Embedded"
	// DataPlaneEnvoy is Envoy 1.34 or newer, with a companion of this project that redirects tenant ports.
	DataPlaneEnvoy DataPlaneType = "Envoy"
)

// DataPlanePlacement says where the data plane runs.
//
// +kubebuilder:validation:Enum=InCluster;External
type DataPlanePlacement string

const (
	// PlacementInCluster runs the data plane on selected nodes of the management cluster, in their network namespace.
	PlacementInCluster DataPlanePlacement = "InCluster"
	// PlacementExternal leaves running the data plane to the user, for example on a proxy machine outside.
	PlacementExternal DataPlanePlacement = "External"
)

// PortRange is an inclusive range of TCP ports.
//
// +kubebuilder:validation:XValidation:rule="self.first <= self.last",message="first must not be greater than last"
type PortRange struct {
	// first is the lowest port of the range.
	//
	// +kubebuilder:validation:Minimum=1024
	// +kubebuilder:validation:Maximum=65535
	// +required
	First int32 `json:"first"`

	// last is the highest port of the range.
	//
	// +kubebuilder:validation:Minimum=1024
	// +kubebuilder:validation:Maximum=65535
	// +required
	Last int32 `json:"last"`
}

// TenantPortListen says which tenants are reached by their own port.
//
// +kubebuilder:validation:Enum=Always;WithoutAddress
type TenantPortListen string

const (
	// TenantPortListenAlways opens every tenant's port.
	TenantPortListenAlways TenantPortListen = "Always"
	// TenantPortListenWithoutAddress opens the ports of tenants that have no private address of their own.
	TenantPortListenWithoutAddress TenantPortListen = "WithoutAddress"
)

// TenantPorts are the ports of a gateway's tenants.
type TenantPorts struct {
	PortRange `json:",inline"`

	// listen says which tenants are reached by their own port. With WithoutAddress those that have an address of privatePrefix are not:
	// their port stays theirs, but closed, and the data plane needs one socket for all of them instead of one for each. Connections that came
	// by a port that is closed end.
	//
	// +kubebuilder:default=Always
	// +optional
	Listen TenantPortListen `json:"listen,omitempty"`
}

// GatewayDataPlane says what forwards the connections and where it runs.
//
// +kubebuilder:validation:XValidation:rule="!has(self.metricsPort) || (self.placement == 'InCluster' && self.type == 'Embedded')",message="metricsPort needs placement InCluster and type Embedded: an External data plane has metricsAddress in its own file, and Envoy's metrics are with its health checks"
// +kubebuilder:validation:XValidation:rule="self.placement == 'InCluster' || (!has(self.nodeSelector) && !has(self.tolerations))",message="nodeSelector and tolerations need placement InCluster: an External data plane is not scheduled by this project"
type GatewayDataPlane struct {
	// type is the program that forwards connections.
	//
	// +kubebuilder:default=Embedded
	// +optional
	Type DataPlaneType `json:"type,omitempty"`

	// placement is InCluster (a DaemonSet on the nodes that carry the addresses) or External.
	//
	// +kubebuilder:default=InCluster
	// +optional
	Placement DataPlanePlacement `json:"placement,omitempty"`

	// nodeSelector picks the nodes of the management cluster that carry the gateway's addresses.
	// Without one the data plane runs on every Linux node it may be scheduled to.
	//
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// tolerations of the data plane's pods, for gateway nodes that keep other pods away.
	//
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// image of the data plane. Default: for Embedded the image that belongs to the running manager, for Envoy an official one.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Image string `json:"image,omitempty"`

	// metricsPort on the nodes' own addresses, for Prometheus. Without one metrics are on a loopback address of each node, with
	// the health checks. No other gateway on these nodes may have the same.
	//
	// +kubebuilder:validation:Minimum=1024
	// +kubebuilder:validation:Maximum=65535
	// +optional
	MetricsPort *int32 `json:"metricsPort,omitempty"`
}

// KamajiGatewaySpec describes one gateway: two addresses that all its tenants share.
//
// +kubebuilder:validation:XValidation:rule="!has(self.limits) || self.dataPlane.type == 'Embedded'",message="limits need dataPlane.type Embedded: Envoy has its own"
// +kubebuilder:validation:XValidation:rule="!has(self.proxyProtocol) || self.dataPlane.type == 'Embedded'",message="proxyProtocol needs dataPlane.type Embedded: Envoy would take the header from everybody"
// +kubebuilder:validation:XValidation:rule="self.port >= 1024 || self.dataPlane.placement == 'External'",message="a port below 1024 needs dataPlane.placement External: in the cluster the data plane runs without privileges"
// +kubebuilder:validation:XValidation:rule="self.publicAddress != self.privateAddress",message="publicAddress and privateAddress must differ: each has its own listener on the same port"
// +kubebuilder:validation:XValidation:rule="!has(self.tenantPorts) || self.port < self.tenantPorts.first || self.port > self.tenantPorts.last",message="port must lie outside tenantPorts: it is shared by all tenants"
// +kubebuilder:validation:XValidation:rule="!has(self.dataPlane.metricsPort) || (self.dataPlane.metricsPort != self.port && (!has(self.tenantPorts) || self.dataPlane.metricsPort < self.tenantPorts.first || self.dataPlane.metricsPort > self.tenantPorts.last))",message="dataPlane.metricsPort must be another one than port and lie outside tenantPorts"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.privatePrefix) || has(self.privatePrefix)",message="privatePrefix can't be removed: the tenants' kubernetes Endpoints carry addresses from it; create another gateway"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.privatePrefix) || !has(self.tenantPorts) || !has(oldSelf.tenantPorts) || self.tenantPorts.first == oldSelf.tenantPorts.first",message="tenantPorts.first can't change on a gateway with privatePrefix: tenants' private addresses are counted from it"
// +kubebuilder:validation:XValidation:rule="!has(self.privatePrefix) || !isCIDR(self.privatePrefix) || !has(self.tenantPorts) || (cidr(self.privatePrefix).ip().family() == 4 ? 32 : 128) - cidr(self.privatePrefix).prefixLength() >= 16 || self.tenantPorts.last - self.tenantPorts.first + 3 <= [1,2,4,8,16,32,64,128,256,512,1024,2048,4096,8192,16384,32768][(cidr(self.privatePrefix).ip().family() == 4 ? 32 : 128) - cidr(self.privatePrefix).prefixLength()]",message="privatePrefix must have two addresses more than tenantPorts has ports: choose a larger network, or a smaller tenantPorts"
// +kubebuilder:validation:XValidation:rule="!has(self.privatePrefix) || !isCIDR(self.privatePrefix) || !((isIP(self.publicAddress) && cidr(self.privatePrefix).containsIP(self.publicAddress)) || (isIP(self.privateAddress) && cidr(self.privatePrefix).containsIP(self.privateAddress)))",message="privatePrefix must not contain publicAddress or privateAddress, which all tenants share"
// +kubebuilder:validation:XValidation:rule="!has(self.tenantPorts) || !has(self.tenantPorts.listen) || self.tenantPorts.listen == 'Always' || has(self.privatePrefix)",message="tenantPorts.listen WithoutAddress needs privatePrefix: without it tenants have no address, and all ports are open anyway"
type KamajiGatewaySpec struct {
	// domain under which tenants without a host name of their own get one: <tenant>.<domain>, unless hostnameTemplate says otherwise.
	// It can't change: the names are in certificates, kubeconfigs and on workers.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=189
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$')",message="domain must be a lower-case DNS name, such as k8s.example.com"
	// +kubebuilder:validation:XValidation:rule="!isIP(self)",message="domain must be a DNS name, not an IP address"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="domain can't change: tenants' certificates and workers carry names under it; create another gateway"
	// +required
	Domain string `json:"domain"`

	// hostnameTemplate makes the host name of tenants without one of their own. {name} and {namespace} stand for those of the
	// TenantControlPlane, {domain} for the gateway's domain. It can't change: the names are in certificates, kubeconfigs and on workers.
	//
	// +kubebuilder:default="{name}.{domain}"
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.contains('{name}') && self.replace('{name}', 'n').replace('{namespace}', 'n').replace('{domain}', 'd').matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$')",message="hostnameTemplate must contain {name} and be a lower-case DNS name but for {name}, {namespace} and {domain}, such as {name}.{namespace}.{domain}"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="hostnameTemplate can't change: tenants' certificates and workers carry names made from it; create another gateway"
	// +optional
	HostnameTemplate string `json:"hostnameTemplate,omitempty"`

	// publicAddress is the IP address that customers' kubeconfigs point at. Tenants are told apart by host name (SNI).
	//
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip(self).isGlobalUnicast() && ip.isCanonical(self)",message="publicAddress must be a unicast IP address in its canonical form"
	// +required
	PublicAddress string `json:"publicAddress"`

	// privateAddress is the IP address that workers use, by host name or by the tenant's own port.
	// It can't change: workers and the tenants' kubernetes Endpoints carry it.
	//
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip(self).isGlobalUnicast() && ip.isCanonical(self)",message="privateAddress must be a unicast IP address in its canonical form"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="privateAddress can't change: workers carry it; create another gateway"
	// +required
	PrivateAddress string `json:"privateAddress"`

	// privatePrefix is a network, routed to the machines of the data plane, from which each tenant gets a private address of
	// its own, for clients that send no host name. Tenants then need no port but the shared one; whether their tenant ports keep being
	// served, tenantPorts.listen says.
	// The address is the first of the network plus the place of the tenant's port in tenantPorts, counted from 1. So the network
	// must have two addresses more than tenantPorts has ports, and neither it nor tenantPorts.first can change.
	//
	// +kubebuilder:validation:MaxLength=43
	// +kubebuilder:validation:XValidation:rule="isCIDR(self) && cidr(self).masked() == cidr(self) && cidr(self).ip().isGlobalUnicast()",message="privatePrefix must be a unicast network in CIDR notation without host bits, such as 10.255.0.0/16"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="privatePrefix can't change: the tenants' kubernetes Endpoints carry addresses from it; create another gateway"
	// +optional
	PrivatePrefix string `json:"privatePrefix,omitempty"`

	// publicPolicy says who may connect through publicAddress to tenants that don't say so themselves.
	//
	// +optional
	PublicPolicy *kamajiv1alpha1.GatewayPolicy `json:"publicPolicy,omitempty"`

	// privatePolicy says who may connect through privateAddress, and privatePrefix, to tenants that don't say so themselves.
	//
	// +optional
	PrivatePolicy *kamajiv1alpha1.GatewayPolicy `json:"privatePolicy,omitempty"`

	// port on which all tenants are reached by host name, on both addresses.
	//
	// +kubebuilder:default=6443
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="port can't change: control plane endpoints carry it; create another gateway"
	// +optional
	Port int32 `json:"port,omitempty"`

	// tenantPorts is the range on privateAddress from which each tenant gets one stable port, for clients that send
	// no host name (every pod that uses its cluster's kubernetes Service). Ports that node components of Kubernetes
	// listen on (10248-10260) are left out, and the default ends below the range of node ports, which a gateway node serves too.
	// Shrinking the range doesn't move tenants that already have a port.
	//
	// +kubebuilder:default={first: 10000, last: 29999}
	// +optional
	TenantPorts *TenantPorts `json:"tenantPorts,omitempty"`

	// limits protect each instance of an Embedded data plane. They change without a restart, and what the file of an External instance
	// sets counts instead. Envoy has its own, flags of kamaji-gateway envoy.
	//
	// +optional
	Limits *GatewayLimits `json:"limits,omitempty"`

	// proxyProtocol names load balancers in front of an Embedded data plane that say whose connections they pass on.
	//
	// +optional
	ProxyProtocol *GatewayProxyProtocol `json:"proxyProtocol,omitempty"`

	// dataPlane says what forwards the connections and where it runs.
	//
	// +kubebuilder:default={type: Embedded, placement: InCluster}
	// +optional
	DataPlane GatewayDataPlane `json:"dataPlane,omitempty"`
}

// GatewayDataPlaneStatus counts instances of a data plane that runs in the management cluster.
type GatewayDataPlaneStatus struct {
	// desired is the number of nodes that should run an instance.
	Desired int32 `json:"desired"`
	// ready is the number of instances that take connections.
	Ready int32 `json:"ready"`
	// updated is the number of instances that run the current version of the data plane.
	Updated int32 `json:"updated"`
}

// KamajiGatewayStatus is what was observed of a gateway.
type KamajiGatewayStatus struct {
	// conditions: Ready, AddressesValid, CertificateValid, DataPlaneReady.
	//
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that this status belongs to.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// tenants is the number of tenants that hold a port of this gateway.
	//
	// +optional
	Tenants *int32 `json:"tenants,omitempty"`

	// dataPlane counts instances, when they run in the management cluster.
	//
	// +optional
	DataPlane *GatewayDataPlaneStatus `json:"dataPlane,omitempty"`
}

// KamajiGateway exposes the API servers of many tenants on one public and one private IP address without terminating TLS.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=kgw,categories=cluster-api
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="name must be a DNS label of at most 40 characters: names of leases, pods and certificates are made from it"
// +kubebuilder:printcolumn:name="Domain",type=string,JSONPath=`.spec.domain`
// +kubebuilder:printcolumn:name="Public",type=string,JSONPath=`.spec.publicAddress`
// +kubebuilder:printcolumn:name="Private",type=string,JSONPath=`.spec.privateAddress`
// +kubebuilder:printcolumn:name="Port",type=integer,JSONPath=`.spec.port`
// +kubebuilder:printcolumn:name="Data plane",type=string,JSONPath=`.spec.dataPlane.type`
// +kubebuilder:printcolumn:name="Tenants",type=integer,JSONPath=`.status.tenants`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type KamajiGateway struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec KamajiGatewaySpec `json:"spec"`
	// +optional
	Status KamajiGatewayStatus `json:"status,omitempty"`
}

// KamajiGatewayList is a list of KamajiGateways.
//
// +kubebuilder:object:root=true
type KamajiGatewayList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []KamajiGateway `json:"items"`
}

func init() {
	objectTypes = append(objectTypes, &KamajiGateway{}, &KamajiGatewayList{})
}
