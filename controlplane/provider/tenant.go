// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
)

// tenantFor is the TenantControlPlane that kcp wants, complete; live is what there is already, or nil. Same input, same output.
func tenantFor(cluster *clusterv1.Cluster, kcp *controlplanev1.KamajiControlPlane, live *kamajiv1alpha1.TenantControlPlane) *kamajiv1alpha1.TenantControlPlane {
	tenant := &kamajiv1alpha1.TenantControlPlane{
		ObjectMeta: metav1.ObjectMeta{
			Name:      kcp.Name,
			Namespace: kcp.Namespace,
			Labels:    map[string]string{clusterv1.ClusterNameLabel: cluster.Name},
			OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(kcp, controlplanev1.GroupVersion.WithKind("KamajiControlPlane")),
			},
		},
		Spec: kamajiv1alpha1.TenantControlPlaneSpec{
			DataStore:          kcp.Spec.DataStoreName,
			DataStoreSelector:  kcp.Spec.DataStoreSelector,
			DataStoreSchema:    kcp.Spec.DataStoreSchema,
			DataStoreUsername:  kcp.Spec.DataStoreUsername,
			DataStoreOverrides: kcp.Spec.DataStoreOverrides,
			WritePermissions:   kcp.Spec.WritePermissions,
			Kubernetes: kamajiv1alpha1.KubernetesSpec{
				Version:              version(kcp),
				Kubelet:              kcp.Spec.Kubelet,
				AdmissionControllers: kcp.Spec.AdmissionControllers,
			},
			ControlPlane:   exposure(kcp),
			NetworkProfile: networkProfile(cluster, kcp),
			Addons:         addons(kcp),
			Certificates:   kcp.Spec.Certificates,

			InternalCACertificatesConfigMap: kcp.Spec.InternalCACertificatesConfigMap,
		},
	}
	tenant.Spec.ControlPlane.Deployment = deployment(kcp)
	preferEndpoint(cluster, kcp, tenant, live)
	for _, name := range passedOn {
		if value, ok := kcp.Annotations[name]; ok {
			metav1.SetMetaDataAnnotation(&tenant.ObjectMeta, name, value)
		}
	}
	return tenant
}

// passedOn are the annotations that mean the same on both objects.
var passedOn = []string{
	kamajiv1alpha1.KubeconfigSecretKeyAnnotation,
	kamajiv1alpha1.CleanupPriorMigrationAnnotation, kamajiv1alpha1.MigrationTimeoutAnnotation, kamajiv1alpha1.MigrationMinimumFreezeAnnotation,
	kamajiv1alpha1.DeleteMigrationSourceAnnotation, kamajiv1alpha1.MigrationAttemptAnnotation,
}

// version is the wanted version with its leading v; the user's own spelling stays in spec.
func version(kcp *controlplanev1.KamajiControlPlane) string {
	return "v" + strings.TrimPrefix(kcp.Spec.Version, "v")
}

func exposure(kcp *controlplanev1.KamajiControlPlane) kamajiv1alpha1.ControlPlane {
	network := kcp.Spec.Network
	out := kamajiv1alpha1.ControlPlane{
		KamajiGateway: network.KamajiGateway,
		Monitoring:    kcp.Spec.Monitoring,
		Service: kamajiv1alpha1.ServiceSpec{
			ServiceType:        network.ServiceType,
			AdditionalMetadata: kamajiv1alpha1.AdditionalMetadata{Labels: network.ServiceLabels, Annotations: network.ServiceAnnotations},
			AdditionalPorts:    network.AdditionalServicePorts,
		},
	}
	if balancer := network.LoadBalancerConfig; balancer != nil {
		out.Service.AllocateLoadBalancerNodePorts = balancer.AllocateNodePorts
	}
	switch {
	case network.KamajiGateway != nil:
		out.Service.ServiceType = kamajiv1alpha1.ServiceTypeClusterIP
	case network.ServiceType == "":
		out.Service.ServiceType = kamajiv1alpha1.ServiceTypeLoadBalancer
	}
	if ingress := network.Ingress; ingress != nil {
		out.Ingress = &kamajiv1alpha1.IngressSpec{
			IngressClassName:   ingress.ClassName,
			Hostname:           ingress.Hostname,
			AdditionalMetadata: kamajiv1alpha1.AdditionalMetadata{Labels: ingress.ExtraLabels, Annotations: ingress.ExtraAnnotations},
		}
	}
	if gateway := network.Gateway; gateway != nil {
		parent := gatewayv1.ParentReference{Name: gatewayv1.ObjectName(gateway.Name)}
		if gateway.Namespace != "" {
			parent.Namespace = ptr.To(gatewayv1.Namespace(gateway.Namespace))
		}
		if gateway.SectionName != "" {
			parent.SectionName = ptr.To(gatewayv1.SectionName(gateway.SectionName))
		}
		if gateway.Port != 0 {
			parent.Port = ptr.To(gateway.Port)
		}
		out.Gateway = &kamajiv1alpha1.GatewaySpec{
			Hostname:           gatewayv1.Hostname(gateway.Hostname),
			GatewayParentRefs:  []gatewayv1.ParentReference{parent},
			AdditionalMetadata: kamajiv1alpha1.AdditionalMetadata{Labels: gateway.ExtraLabels, Annotations: gateway.ExtraAnnotations},
		}
	}
	return out
}

func networkProfile(cluster *clusterv1.Cluster, kcp *controlplanev1.KamajiControlPlane) kamajiv1alpha1.NetworkProfileSpec {
	network := kcp.Spec.Network
	profile := kamajiv1alpha1.NetworkProfileSpec{
		Address:          network.ServiceAddress,
		AdvertiseAddress: network.AdvertiseAddress,
		Port:             cluster.Spec.ClusterNetwork.APIServerPort,
		CertSANs:         network.CertSANs,
		ServiceCIDRs:     cluster.Spec.ClusterNetwork.Services.CIDRBlocks,
		PodCIDRs:         cluster.Spec.ClusterNetwork.Pods.CIDRBlocks,
		DNSServiceIPs:    network.DNSServiceIPs,
		ClusterDomain:    cluster.Spec.ClusterNetwork.ServiceDomain,

		AllowAddressAsExternalIP: network.AllowAddressAsExternalIP,
	}
	if len(profile.DNSServiceIPs) == 0 && kcp.Spec.Addons.CoreDNS != nil {
		profile.DNSServiceIPs = kcp.Spec.Addons.CoreDNS.DNSServiceIPs
	}
	if balancer := network.LoadBalancerConfig; balancer != nil {
		profile.LoadBalancerSourceRanges = balancer.SourceRanges
		profile.LoadBalancerClass = balancer.Class
	}
	return profile
}

// preferEndpoint makes the tenant serve an endpoint that the user has put on the Cluster beforehand, or that a control
// plane which is made anew had before. The endpoint that Cluster API has copied there from kcp is the tenant's own and
// must not be pinned: it would ask a load balancer for an address by a field, and hide that the address has changed.
func preferEndpoint(cluster *clusterv1.Cluster, kcp *controlplanev1.KamajiControlPlane, tenant, live *kamajiv1alpha1.TenantControlPlane) {
	endpoint, spec := cluster.Spec.ControlPlaneEndpoint, &tenant.Spec.ControlPlane
	if !endpoint.IsValid() || spec.Ingress != nil || spec.Gateway != nil && spec.KamajiGateway == nil {
		return
	}
	_, err := netip.ParseAddr(endpoint.Host)
	isIP := err == nil
	if gateway := spec.KamajiGateway; gateway != nil {
		if !isIP && gateway.Hostname == "" {
			named := *gateway
			named.Hostname = strings.ToLower(endpoint.Host)
			spec.KamajiGateway = &named
		}
		return
	}
	if live != nil && kcp.Spec.ControlPlaneEndpoint.IsValid() &&
		live.Spec.NetworkProfile.Address != endpoint.Host && !slices.Contains(live.Spec.NetworkProfile.CertSANs, endpoint.Host) {
		return
	}
	profile := &tenant.Spec.NetworkProfile
	switch {
	case isIP && profile.Address == "":
		profile.Address, profile.Port = endpoint.Host, endpoint.Port
	case !isIP:
		profile.CertSANs = append(slices.Clone(profile.CertSANs), endpoint.Host)
		profile.Port = endpoint.Port
	}
}

func addons(kcp *controlplanev1.KamajiControlPlane) kamajiv1alpha1.AddonsSpec {
	out := kamajiv1alpha1.AddonsSpec{
		Konnectivity: kcp.Spec.Addons.Konnectivity,
		KubeProxy:    kcp.Spec.Addons.KubeProxy,
	}
	if kcp.Spec.Addons.CoreDNS != nil {
		out.CoreDNS = &kcp.Spec.Addons.CoreDNS.AddonSpec
	}
	return out
}

func deployment(kcp *controlplanev1.KamajiControlPlane) kamajiv1alpha1.DeploymentSpec {
	spec := kcp.Spec
	out := kamajiv1alpha1.DeploymentSpec{
		Replicas: spec.Replicas,
		RegistrySettings: kamajiv1alpha1.RegistrySettings{
			Registry:               spec.Registry,
			APIServerImage:         spec.APIServer.ContainerImageName,
			ControllerManagerImage: spec.ControllerManager.ContainerImageName,
			SchedulerImage:         spec.Scheduler.ContainerImageName,
			TagSuffix:              spec.RegistryTagSuffix,
		},
		NodeSelector:          spec.Deployment.NodeSelector,
		RuntimeClassName:      spec.Deployment.RuntimeClassName,
		PriorityClassName:     spec.Deployment.PriorityClassName,
		AdditionalMetadata:    spec.Deployment.AdditionalMetadata,
		PodAdditionalMetadata: spec.Deployment.PodAdditionalMetadata,
		ServiceAccountName:    spec.Deployment.ServiceAccountName,

		AutomountServiceAccountToken: spec.Deployment.AutomountServiceAccountToken,

		PodSecurityContext:        spec.Deployment.PodSecurityContext,
		Affinity:                  spec.Deployment.Affinity,
		Tolerations:               spec.Deployment.Tolerations,
		TopologySpreadConstraints: spec.Deployment.TopologySpreadConstraints,
		AdditionalInitContainers:  spec.Deployment.ExtraInitContainers,
		AdditionalContainers:      spec.Deployment.ExtraContainers,
		AdditionalVolumes:         spec.Deployment.ExtraVolumes,
		Resources: &kamajiv1alpha1.ControlPlaneComponentsResources{
			APIServer: spec.APIServer.Resources, ControllerManager: spec.ControllerManager.Resources,
			Scheduler: spec.Scheduler.Resources, Kine: spec.Kine.Resources,
		},
		ExtraArgs: &kamajiv1alpha1.ControlPlaneExtraArgs{
			APIServer: spec.APIServer.ExtraArgs, ControllerManager: spec.ControllerManager.ExtraArgs,
			Scheduler: spec.Scheduler.ExtraArgs, Kine: spec.Kine.ExtraArgs,
		},
		AdditionalVolumeMounts: &kamajiv1alpha1.AdditionalVolumeMounts{
			APIServer: spec.APIServer.ExtraVolumeMounts, ControllerManager: spec.ControllerManager.ExtraVolumeMounts,
			Scheduler: spec.Scheduler.ExtraVolumeMounts,
		},
		Probes: &kamajiv1alpha1.ControlPlaneProbes{
			APIServer: spec.APIServer.Probes, ControllerManager: spec.ControllerManager.Probes, Scheduler: spec.Scheduler.Probes,
		},
	}
	if a, c, s := spec.APIServer.SecurityContext, spec.ControllerManager.SecurityContext, spec.Scheduler.SecurityContext; a != nil || c != nil || s != nil {
		out.ContainerSecurityContexts = &kamajiv1alpha1.ContainerSecurityContexts{APIServer: a, ControllerManager: c, Scheduler: s}
	}
	if spec.Deployment.Probes != nil {
		out.Probes.ProbeSet = *spec.Deployment.Probes
	}
	if spec.Deployment.Strategy != nil {
		out.Strategy = *spec.Deployment.Strategy
	}
	return out
}
