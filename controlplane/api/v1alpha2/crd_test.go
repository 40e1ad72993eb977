// SPDX-License-Identifier: Apache-2.0

package v1alpha2_test

import (
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// TestSchemas checks the rules of KamajiControlPlanes that their translation does not.
func TestSchemas(t *testing.T) {
	const (
		controlPlane = `
apiVersion: controlplane.cluster.x-k8s.io/v1alpha2
kind: KamajiControlPlane
metadata: {name: case, namespace: default}
spec: {version: v1.36.3, deployment: {}}
`
		template = `
apiVersion: controlplane.cluster.x-k8s.io/v1alpha2
kind: KamajiControlPlaneTemplate
metadata: {name: case, namespace: default}
spec: {template: {spec: {deployment: {}}}}
`
	)
	crds := filepath.Join("config", "controlplane", "crd", "bases")
	_, c := testenv.Start(t, runtime.NewScheme(),
		filepath.Join(crds, "controlplane.cluster.x-k8s.io_kamajicontrolplanes.yaml"),
		filepath.Join(crds, "controlplane.cluster.x-k8s.io_kamajicontrolplanetemplates.yaml"))
	elsewhere := map[string]any{
		"kubeconfigSecretName": "other", "kubeconfigSecretKey": "admin.conf",
		"kubeconfigSecretNamespace": "default", "deploymentNamespace": "tenants",
	}
	for _, tc := range []struct {
		name, manifest, path string
		value                map[string]any
		// want is part of the error, or empty if the object is valid.
		want string
	}{
		{"control plane", controlPlane, "", nil, ""},
		{"control plane elsewhere", controlPlane, "spec.deployment.externalClusterReference", elsewhere, "not supported by this release"},
		{"control plane elsewhere, cure", controlPlane, "spec.deployment.externalClusterReference", map[string]any{}, "remove externalClusterReference"},
		{"template", template, "", nil, ""},
		{"template elsewhere", template, "spec.template.spec.deployment.externalClusterReference", elsewhere, "not supported by this release"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(tc.manifest), &o.Object); err != nil {
				t.Fatal(err)
			}
			if tc.path != "" {
				if err := unstructured.SetNestedMap(o.Object, tc.value, strings.Split(tc.path, ".")...); err != nil {
					t.Fatal(err)
				}
			}
			err := c.Create(t.Context(), o, client.DryRunAll)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("rejected: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.path) || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("want an error about %s with %q, got %v", tc.path, tc.want, err)
			}
		})
	}
}
