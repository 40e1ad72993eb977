// SPDX-License-Identifier: Apache-2.0

// Package manifests holds what the lab applies besides the providers: the CNI
// of its tenants.
package manifests

import (
	"bytes"
	_ "embed"
	"fmt"
	"net/netip"
	"text/template"

	"sigs.k8s.io/yaml"
)

// FlannelImage is the image of flannel's DaemonSet, as published by its project.
// It has flanneld at /opt/bin/flanneld, cp, and iptables.
const FlannelImage = "ghcr.io/flannel-io/flannel:v0.28.4"

// CNILabel selects the Clusters that get flannel; the cluster templates set it.
var CNILabel = map[string]string{"cni": "flannel"}

//go:embed flannel.yaml
var flannel string

var flannelTemplate = template.Must(template.New("flannel").Option("missingkey=error").Parse(flannel))

// Flannel is the YAML that runs flannel inside a tenant. PodCIDR is the tenant's
// pod network, and device the hosts' network device that carries it.
func Flannel(podCIDR netip.Prefix, device string) (string, error) {
	var out bytes.Buffer
	err := flannelTemplate.Execute(&out, map[string]string{"PodCIDR": podCIDR.String(), "Image": FlannelImage, "Interface": device})
	if err != nil {
		return "", fmt.Errorf("rendering flannel's manifest: %w", err)
	}
	return out.String(), nil
}

// FlannelResourceSet is the YAML, for the management cluster, that makes Cluster
// API apply flannel to every Cluster in namespace with CNILabel.
func FlannelResourceSet(namespace string, podCIDR netip.Prefix, device string) (string, error) {
	manifest, err := Flannel(podCIDR, device)
	if err != nil {
		return "", err
	}
	const name = "flannel"
	metadata := map[string]any{"name": name, "namespace": namespace}
	var out bytes.Buffer
	for _, object := range []map[string]any{
		{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": map[string]any{"flannel.yaml": manifest}},
		{
			"apiVersion": "addons.cluster.x-k8s.io/v1beta2", "kind": "ClusterResourceSet", "metadata": metadata,
			"spec": map[string]any{
				"clusterSelector": map[string]any{"matchLabels": CNILabel},
				"resources":       []any{map[string]any{"kind": "ConfigMap", "name": name}},
				"strategy":        "Reconcile",
			},
		},
	} {
		content, err := yaml.Marshal(object)
		if err != nil {
			return "", fmt.Errorf("writing %s %s: %w", object["kind"], name, err)
		}
		out.WriteString("---\n")
		out.Write(content)
	}
	return out.String(), nil
}
