// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// GatewayExposure names the addresses of a KamajiGateway on which a tenant is reached.
//
// +kubebuilder:validation:Enum=PublicAndPrivate;Private
type GatewayExposure string

// The values of GatewayExposure.
const (
	// GatewayExposurePublicAndPrivate serves customers on the public address and nodes on the private one.
	GatewayExposurePublicAndPrivate GatewayExposure = "PublicAndPrivate"

	// GatewayExposurePrivate serves nothing on the public address. Published
	// kubeconfigs lead to the private address, and no certificate names the public one.
	GatewayExposurePrivate GatewayExposure = "Private"
)

// SourceCIDR is a network in CIDR notation, by its first address.
//
// +kubebuilder:validation:MaxLength=43
// +kubebuilder:validation:XValidation:rule="isCIDR(self) && cidr(self).masked() == cidr(self)",message="must be a network in CIDR notation without host bits, such as 203.0.113.0/24 or 2001:db8::/32; a single address is a /32 or /128"
type SourceCIDR string

// GatewayPolicy says who may connect through one address of a KamajiGateway.
type GatewayPolicy struct {
	// allowedSources are the networks from which connections are taken. Others are
	// closed before they reach the tenant. Without any, connections from everywhere are taken.
	//
	// The address that counts is the one the gateway sees: behind a load balancer
	// that hides clients it is the load balancer's, and nodes behind NAT have the NAT's.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +optional
	AllowedSources []SourceCIDR `json:"allowedSources,omitempty"`

	// maxConnections limits the connections of the tenant that are open at a time on
	// this side, to the API server and to konnectivity together, by whatever name,
	// port or address they came; per instance of the gateway. The default is 32768.
	// Envoy counts those of each name, port and address by themselves.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	MaxConnections *int32 `json:"maxConnections,omitempty"`
}
