// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	"encoding/json"
	"fmt"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/upgrade"
)

// clusterConfiguration is the part of kubeadm's document of the same name that
// means something for a control plane that kubeadm doesn't run. The fields are the
// same in v1beta3 and v1beta4, except for encryptionAlgorithm.
type clusterConfiguration struct {
	metav1.TypeMeta      `json:",inline"`
	ClusterName          string     `json:"clusterName"`
	KubernetesVersion    string     `json:"kubernetesVersion"`
	ControlPlaneEndpoint string     `json:"controlPlaneEndpoint"`
	CertificatesDir      string     `json:"certificatesDir"`
	ImageRepository      string     `json:"imageRepository"`
	EncryptionAlgorithm  string     `json:"encryptionAlgorithm,omitempty"`
	Networking           networking `json:"networking"`
}

type networking struct {
	ServiceSubnet string `json:"serviceSubnet"`
	PodSubnet     string `json:"podSubnet"`
	DNSDomain     string `json:"dnsDomain"`
}

// firstV1beta4 is the first minor whose kubeadm reads v1beta4.
const firstV1beta4 = 31

// ClusterConfiguration is the kubeadm document of the tenant in YAML, in the API
// version that kubeadm of the tenant's version writes itself.
func ClusterConfiguration(in Input) (string, error) {
	tenant := in.Tenant
	out := clusterConfiguration{
		TypeMeta:             metav1.TypeMeta{APIVersion: "kubeadm.k8s.io/v1beta4", Kind: "ClusterConfiguration"},
		ClusterName:          tenant.Name,
		KubernetesVersion:    tenant.KubernetesVersion(),
		ControlPlaneEndpoint: in.Endpoint.Worker.HostPort(),
		CertificatesDir:      "/etc/kubernetes/pki",
		ImageRepository:      "registry.k8s.io",
		EncryptionAlgorithm:  "ECDSA-P256",
		Networking: networking{
			ServiceSubnet: strings.Join(tenant.ServiceCIDRs(), ","),
			PodSubnet:     strings.Join(tenant.PodCIDRs(), ","),
			DNSDomain:     tenant.ClusterDomain(),
		},
	}
	if upgrade.Minor(tenant.KubernetesVersion()) < firstV1beta4 {
		out.APIVersion, out.EncryptionAlgorithm = "kubeadm.k8s.io/v1beta3", ""
	}
	return Document(out)
}

// KubeletConfiguration is what joining nodes configure their kubelets with, in
// YAML: kubeadm's defaults, then the user's patches.
func KubeletConfiguration(in Input) (string, error) {
	dns, err := in.Tenant.DNSServiceIPs()
	if err != nil {
		return "", err
	}
	spec := &in.Tenant.Spec.Kubernetes.Kubelet
	config := kubeletv1beta1.KubeletConfiguration{
		TypeMeta:           metav1.TypeMeta{APIVersion: kubeletv1beta1.SchemeGroupVersion.String(), Kind: "KubeletConfiguration"},
		StaticPodPath:      "/etc/kubernetes/manifests",
		ClusterDNS:         dns,
		ClusterDomain:      in.Tenant.ClusterDomain(),
		CgroupDriver:       "systemd",
		HealthzBindAddress: "127.0.0.1",
		HealthzPort:        ptr.To[int32](10248),
		RotateCertificates: true,
		Authorization:      kubeletv1beta1.KubeletAuthorization{Mode: kubeletv1beta1.KubeletAuthorizationModeWebhook},
	}
	config.Authentication.X509.ClientCAFile = "/etc/kubernetes/pki/ca.crt"
	config.Authentication.Anonymous.Enabled = ptr.To(false)
	config.Authentication.Webhook.Enabled = ptr.To(true)
	if spec.CGroupFS != "" {
		config.CgroupDriver = string(spec.CGroupFS)
	}
	if len(spec.ConfigurationJSONPatches) == 0 {
		return Document(config)
	}
	return patched(config, spec.ConfigurationJSONPatches)
}

// patched applies the patches to the whole document as Go's encoder writes it, so
// that they can replace fields that nobody has set, and then leaves out what still
// says nothing.
func patched(config kubeletv1beta1.KubeletConfiguration, patches []kamajiv1alpha1.JSONPatch) (string, error) {
	const field = "spec.kubernetes.kubelet.configurationJSONPatches"
	data, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	operations, err := json.Marshal(patches)
	if err != nil {
		return "", fmt.Errorf("%s: %w", field, err)
	}
	patch, err := jsonpatch.DecodePatch(operations)
	if err != nil {
		return "", fmt.Errorf("%s: %w", field, err)
	}
	options := jsonpatch.NewApplyOptions()
	options.EnsurePathExistsOnAdd = true
	result, err := patch.ApplyWithOptions(data, options)
	if err != nil {
		return "", fmt.Errorf("%s: %w", field, err)
	}
	if err := yaml.UnmarshalStrict(result, &kubeletv1beta1.KubeletConfiguration{}); err != nil {
		return "", fmt.Errorf("%s make a configuration that no kubelet can read: %w", field, err)
	}
	var before, after map[string]any
	if err := json.Unmarshal(data, &before); err != nil {
		return "", err
	}
	if err := json.Unmarshal(result, &after); err != nil {
		return "", err
	}
	prune(after, before)
	out, err := yaml.Marshal(after)
	return string(out), err
}

// Document encodes a configuration document in YAML without what says nothing:
// nulls, empty objects, and durations of zero, which Go's encoder writes for
// fields that nobody has set. Older programs than the types may not know them.
func Document(config any) (string, error) {
	data, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	var content map[string]any
	if err := json.Unmarshal(data, &content); err != nil {
		return "", err
	}
	prune(content, content)
	out, err := yaml.Marshal(content)
	return string(out), err
}

// prune removes what says nothing in before and is unchanged in content.
func prune(content, before map[string]any) {
	for key, old := range before {
		value, ok := content[key]
		if !ok {
			continue
		}
		switch old := old.(type) {
		case nil, string:
			if value == old && (old == nil || old == "" || old == "0s") {
				delete(content, key)
			}
		case map[string]any:
			if inner, ok := value.(map[string]any); ok {
				prune(inner, old)
				if len(inner) == 0 {
					delete(content, key)
				}
			}
		}
	}
}
