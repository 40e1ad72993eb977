// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/yaml"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/apply"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/golden"
)

func cluster() *clusterv1.Cluster {
	return &clusterv1.Cluster{
		ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: "team-a"},
		Spec: clusterv1.ClusterSpec{ClusterNetwork: clusterv1.ClusterNetwork{
			Services: clusterv1.NetworkRanges{CIDRBlocks: []string{"10.96.0.0/16"}},
			Pods:     clusterv1.NetworkRanges{CIDRBlocks: []string{"10.244.0.0/16"}},
		}},
	}
}

func controlPlane() *controlplanev1.KamajiControlPlane {
	return &controlplanev1.KamajiControlPlane{
		ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: "team-a", UID: "kcp-uid"},
		Spec: controlplanev1.KamajiControlPlaneSpec{
			Replicas: ptr.To[int32](1),
			Version:  "1.36.3",
			KamajiControlPlaneFields: controlplanev1.KamajiControlPlaneFields{
				DataStoreName: "default",
				Registry:      "registry.k8s.io",
				Network:       controlplanev1.NetworkSpec{KamajiGateway: &kamajiv1alpha1.KamajiGatewaySpec{Name: "default"}},
				Addons: controlplanev1.AddonsSpec{
					CoreDNS: &controlplanev1.CoreDNSAddonSpec{}, KubeProxy: &kamajiv1alpha1.AddonSpec{}, Konnectivity: &kamajiv1alpha1.KonnectivitySpec{KonnectivityServerSpec: kamajiv1alpha1.KonnectivityServerSpec{Port: 8132}},
				},
			},
		},
	}
}

// TestTenantFor compares what is sent with testdata/<name>.yaml; UPDATE=1 rewrites the files.
func TestTenantFor(t *testing.T) {
	tests := map[string]func(*clusterv1.Cluster, *controlplanev1.KamajiControlPlane){
		"gateway": func(*clusterv1.Cluster, *controlplanev1.KamajiControlPlane) {},
		"gateway-wake": func(_ *clusterv1.Cluster, kcp *controlplanev1.KamajiControlPlane) {
			kcp.Spec.Replicas = ptr.To[int32](0)
			kcp.Spec.Network.KamajiGateway.Wake = &kamajiv1alpha1.WakeSpec{For: &metav1.Duration{Duration: 90 * time.Minute}}
		},
		"gateway-endpoint-given": func(c *clusterv1.Cluster, _ *controlplanev1.KamajiControlPlane) {
			c.Spec.ControlPlaneEndpoint = clusterv1.APIEndpoint{Host: "API.example.com", Port: 6443}
		},
		"address-given": func(c *clusterv1.Cluster, kcp *controlplanev1.KamajiControlPlane) {
			kcp.Spec.Network = controlplanev1.NetworkSpec{ServiceType: kamajiv1alpha1.ServiceTypeClusterIP}
			c.Spec.ControlPlaneEndpoint = clusterv1.APIEndpoint{Host: "192.0.2.7", Port: 40443}
		},
		"everything": func(_ *clusterv1.Cluster, kcp *controlplanev1.KamajiControlPlane) {
			kcp.Annotations = map[string]string{kamajiv1alpha1.KubeconfigSecretKeyAnnotation: "super-admin.svc"}
			kcp.Spec.Network = controlplanev1.NetworkSpec{
				ServiceAnnotations: map[string]string{"a": "b"}, CertSANs: []string{"extra.example.com"},
				LoadBalancerConfig:       &controlplanev1.LoadBalancerConfig{SourceRanges: []string{"198.51.100.0/24"}, Class: ptr.To("metallb"), AllocateNodePorts: ptr.To(false)},
				AllowAddressAsExternalIP: true,
				Gateway:                  &controlplanev1.GatewayAPISpec{Name: "gw", Namespace: "infra", Hostname: "demo.example.com", SectionName: "tls", Port: 6443},
			}
			kcp.Spec.RegistryTagSuffix, kcp.Spec.InternalCACertificatesConfigMap = "-hardened", ptr.To("corporate-ca")
			kcp.Spec.WritePermissions.BlockDeletion = true
			kcp.Spec.Certificates = &kamajiv1alpha1.CertificatesSpec{Authority: &kamajiv1alpha1.CertificateSource{SecretRef: &kamajiv1alpha1.LocalSecretReference{Name: "corporate"}}}
			kcp.Spec.Scheduler.SecurityContext = &corev1.SecurityContext{RunAsUser: ptr.To[int64](1001)}
			kcp.Spec.APIServer = controlplanev1.ComponentSpec{
				ExtraArgs: []string{"--v=2"}, ContainerImageName: "my-apiserver",
				Resources: &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")}},
				Probes:    &kamajiv1alpha1.ProbeSet{Startup: &kamajiv1alpha1.ProbeSpec{FailureThreshold: ptr.To[int32](99)}},
			}
			kcp.Spec.Kine = controlplanev1.KineSpec{ExtraArgs: []string{"--debug"}}
			kcp.Spec.Deployment = controlplanev1.DeploymentSpec{
				NodeSelector: map[string]string{"pool": "control-planes"}, ServiceAccountName: "tenants",
				AutomountServiceAccountToken: ptr.To(true), PodSecurityContext: &corev1.PodSecurityContext{RunAsUser: ptr.To[int64](1000)},
				ExtraVolumes: []corev1.Volume{{Name: "audit", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
			}
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			c, kcp := cluster(), controlPlane()
			change(c, kcp)
			intent, err := apply.Intent(tenantFor(c, kcp, nil))
			if err != nil {
				t.Fatal(err)
			}
			got, err := yaml.Marshal(intent.Object)
			if err != nil {
				t.Fatal(err)
			}
			golden.Text(t, filepath.Join("testdata", name+".yaml"), string(got))
		})
	}
}

// What Cluster API copied from the control plane to the Cluster is no wish of the user's.
func TestPublishedEndpointIsNotPinned(t *testing.T) {
	c, kcp := cluster(), controlPlane()
	kcp.Spec.Network = controlplanev1.NetworkSpec{ServiceType: kamajiv1alpha1.ServiceTypeLoadBalancer}
	for name, test := range map[string]struct {
		endpoint, published clusterv1.APIEndpoint
		live                kamajiv1alpha1.NetworkProfileSpec
		isNew               bool
		want                kamajiv1alpha1.NetworkProfileSpec
	}{
		"given beforehand": {
			endpoint: clusterv1.APIEndpoint{Host: "192.0.2.7", Port: 40443}, isNew: true,
			want: kamajiv1alpha1.NetworkProfileSpec{Address: "192.0.2.7", Port: 40443},
		},
		"given beforehand, later": {
			endpoint: clusterv1.APIEndpoint{Host: "192.0.2.7", Port: 40443}, published: clusterv1.APIEndpoint{Host: "192.0.2.7", Port: 40443},
			live: kamajiv1alpha1.NetworkProfileSpec{Address: "192.0.2.7", Port: 40443},
			want: kamajiv1alpha1.NetworkProfileSpec{Address: "192.0.2.7", Port: 40443},
		},
		"a name given beforehand, later": {
			endpoint: clusterv1.APIEndpoint{Host: "api.example.com", Port: 443}, published: clusterv1.APIEndpoint{Host: "192.0.2.7", Port: 443},
			live: kamajiv1alpha1.NetworkProfileSpec{CertSANs: []string{"api.example.com"}, Port: 443},
			want: kamajiv1alpha1.NetworkProfileSpec{CertSANs: []string{"api.example.com"}, Port: 443},
		},
		"copied": {
			endpoint: clusterv1.APIEndpoint{Host: "192.0.2.7", Port: 6443}, published: clusterv1.APIEndpoint{Host: "192.0.2.7", Port: 6443},
		},
		"a control plane made anew": {
			endpoint: clusterv1.APIEndpoint{Host: "192.0.2.7", Port: 6443}, published: clusterv1.APIEndpoint{Host: "192.0.2.7", Port: 6443}, isNew: true,
			want: kamajiv1alpha1.NetworkProfileSpec{Address: "192.0.2.7", Port: 6443},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.Spec.ControlPlaneEndpoint, kcp.Spec.ControlPlaneEndpoint = test.endpoint, test.published
			live := &kamajiv1alpha1.TenantControlPlane{Spec: kamajiv1alpha1.TenantControlPlaneSpec{NetworkProfile: test.live}}
			if test.isNew {
				live = nil
			}
			got := tenantFor(c, kcp, live).Spec.NetworkProfile
			test.want.ServiceCIDRs, test.want.PodCIDRs = got.ServiceCIDRs, got.PodCIDRs
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	v := func(version string, replicas int32) clusterv1.StatusVersion {
		return clusterv1.StatusVersion{Version: version, Replicas: replicas}
	}
	tests := map[string]struct {
		running, wanted   string
		replicas, updated int32
		want              []clusterv1.StatusVersion
	}{
		"not started":           {"", "v1.36.3", 0, 0, nil},
		"steady":                {"v1.36.3", "v1.36.3", 2, 2, []clusterv1.StatusVersion{v("v1.36.3", 2)}},
		"asleep":                {"v1.36.3", "v1.36.3", 0, 0, []clusterv1.StatusVersion{v("v1.36.3", 1)}},
		"upgrade not begun":     {"v1.35.4", "v1.36.3", 2, 0, []clusterv1.StatusVersion{v("v1.35.4", 2)}},
		"upgrade half way":      {"v1.35.4", "v1.36.3", 3, 1, []clusterv1.StatusVersion{v("v1.35.4", 2), v("v1.36.3", 1)}},
		"upgrade not confirmed": {"v1.35.4", "v1.36.3", 2, 2, []clusterv1.StatusVersion{v("v1.35.4", 2)}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, versions(test.running, test.wanted, test.replicas, test.updated)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
