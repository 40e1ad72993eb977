// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Defaults of fields that may be absent in objects that no API server has defaulted.
const (
	DefaultPort             int32 = 6443
	DefaultKonnectivityPort int32 = 8132
	DefaultReplicas         int32 = 2
	DefaultClusterDomain          = "cluster.local"
	DefaultServiceCIDR            = "10.96.0.0/16"
	DefaultPodCIDR                = "10.244.0.0/16"
	DefaultRegistry               = "registry.k8s.io"
)

// KubernetesVersion is the wanted version with exactly one leading v, as image tags have it.
func (t *TenantControlPlane) KubernetesVersion() string {
	return "v" + strings.TrimPrefix(strings.TrimSpace(t.Spec.Kubernetes.Version), "v")
}

// Port is the port of the API server in the pods and on the Service.
func (t *TenantControlPlane) Port() int32 {
	if t.Spec.NetworkProfile.Port == 0 {
		return DefaultPort
	}
	return t.Spec.NetworkProfile.Port
}

// Replicas is the number of pods in the spec; see ReplicasAt for a control plane that clients can wake.
func (t *TenantControlPlane) Replicas() int32 {
	if t.Spec.ControlPlane.Deployment.Replicas == nil {
		return DefaultReplicas
	}
	return *t.Spec.ControlPlane.Deployment.Replicas
}

// ReplicasAt is the wanted number of pods at a time: one at least while a control plane is awake that a client has woken.
func (t *TenantControlPlane) ReplicasAt(now time.Time) int32 {
	if replicas := t.Replicas(); replicas > 0 || !now.Before(t.AwakeUntil()) {
		return replicas
	}
	return 1
}

// WakeFor is how long a client that proves who it is wakes the control plane for, 0 if it can't.
func (t *TenantControlPlane) WakeFor() time.Duration {
	gateway := t.Spec.ControlPlane.KamajiGateway
	switch {
	case gateway == nil || gateway.Wake == nil:
		return 0
	case gateway.Wake.For == nil:
		return DefaultWakeFor
	}
	return gateway.Wake.For.Duration
}

// AwakeUntil is until when a client has woken the control plane, zero if none has or none may. A time that can't be
// read wakes nothing.
func (t *TenantControlPlane) AwakeUntil() time.Time {
	if t.WakeFor() == 0 {
		return time.Time{}
	}
	until, err := time.Parse(time.RFC3339, t.Annotations[AwakeUntilAnnotation])
	if err != nil {
		return time.Time{}
	}
	return until
}

// ClusterDomain is the DNS domain of the tenant's Services.
func (t *TenantControlPlane) ClusterDomain() string {
	if t.Spec.NetworkProfile.ClusterDomain == "" {
		return DefaultClusterDomain
	}
	return t.Spec.NetworkProfile.ClusterDomain
}

// ServiceCIDRs are the ranges of Service addresses, the primary one first.
func (t *TenantControlPlane) ServiceCIDRs() []string {
	return ranges(t.Spec.NetworkProfile.ServiceCIDRs, t.Spec.NetworkProfile.ServiceCIDR, DefaultServiceCIDR)
}

// PodCIDRs are the ranges of pod addresses, the primary one first.
func (t *TenantControlPlane) PodCIDRs() []string {
	return ranges(t.Spec.NetworkProfile.PodCIDRs, t.Spec.NetworkProfile.PodCIDR, DefaultPodCIDR)
}

func ranges(list []string, single, fallback string) []string {
	switch {
	case len(list) > 0:
		return slices.Clone(list)
	case single != "":
		// The deprecated field of a dual-stack cluster holds both, with a comma.
		return strings.Split(single, ",")
	default:
		return []string{fallback}
	}
}

// Schema is the tenant's database or key prefix. What was set up once stays valid
// even if the field is empty. It is empty for an object that was never stored.
func (t *TenantControlPlane) Schema() string {
	switch {
	case t.Spec.DataStoreSchema != "":
		return t.Spec.DataStoreSchema
	case t.Status.Storage.Setup.Schema != "":
		return t.Status.Storage.Setup.Schema
	default:
		return string(t.UID)
	}
}

// StorageUser is the tenant's user in the datastore; see Schema.
func (t *TenantControlPlane) StorageUser() string {
	switch {
	case t.Spec.DataStoreUsername != "":
		return t.Spec.DataStoreUsername
	case t.Status.Storage.Setup.User != "":
		return t.Status.Storage.Setup.User
	default:
		return string(t.UID)
	}
}

// KonnectivityPort is the port of the konnectivity server, or 0 if it is not wanted.
func (t *TenantControlPlane) KonnectivityPort() int32 {
	switch konnectivity := t.Spec.Addons.Konnectivity; {
	case konnectivity == nil:
		return 0
	case konnectivity.KonnectivityServerSpec.Port == 0:
		return DefaultKonnectivityPort
	default:
		return konnectivity.KonnectivityServerSpec.Port
	}
}

// EffectiveWorkerEndpoint is how nodes address the API server through a KamajiGateway.
func (s *KamajiGatewaySpec) EffectiveWorkerEndpoint() WorkerEndpoint {
	if s.WorkerEndpoint == "" {
		return WorkerEndpointHostsPin
	}
	return s.WorkerEndpoint
}

// DNSServiceIPs are the addresses of the name server for pods: the configured ones,
// or the tenth address of each range of Service addresses (the sixteenth of IPv6
// ranges, which ends in 10, too). The error is a range that can't be parsed.
func (t *TenantControlPlane) DNSServiceIPs() ([]string, error) {
	if ips := t.Spec.NetworkProfile.DNSServiceIPs; len(ips) > 0 {
		return slices.Clone(ips), nil
	}
	var out []string
	for _, cidr := range t.ServiceCIDRs() {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(cidr))
		if err != nil {
			return nil, fmt.Errorf("range of Service addresses: %w", err)
		}
		address, steps := prefix.Masked().Addr(), 10
		if address.Is6() {
			steps = 16
		}
		for range steps {
			address = address.Next()
		}
		if !prefix.Contains(address) {
			return nil, fmt.Errorf("range of Service addresses %s is too small for the name server's address: set dnsServiceIPs", cidr)
		}
		out = append(out, address.String())
	}
	return out, nil
}
