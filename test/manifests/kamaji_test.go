// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// Dashboards, autoscalers and scripts that were written for Kamaji read these.
func TestKamajiKindsLookAsBefore(t *testing.T) {
	tenants := crd(t, "kamaji.clastix.io_tenantcontrolplanes.yaml")
	version := tenants.Spec.Versions[0]
	columns := map[string]string{}
	for _, c := range version.AdditionalPrinterColumns {
		columns[c.Name] = c.JSONPath
	}
	for name, path := range map[string]string{
		"Version": ".spec.kubernetes.version", "Installed Version": ".status.kubernetesResources.version.version",
		"Status": ".status.kubernetesResources.version.status", "Control-Plane endpoint": ".status.controlPlaneEndpoint",
		"Kubeconfig": ".status.kubeconfig.admin.secretName", "Datastore": ".status.storage.dataStoreName", "Age": ".metadata.creationTimestamp",
	} {
		if columns[name] != path {
			t.Errorf("column %s shows %q, want %q", name, columns[name], path)
		}
	}
	scale := &apiextensionsv1.CustomResourceSubresourceScale{
		SpecReplicasPath: ".spec.controlPlane.deployment.replicas", StatusReplicasPath: ".status.kubernetesResources.deployment.replicas",
		LabelSelectorPath: ptr.To(".status.kubernetesResources.deployment.selector"),
	}
	if diff := cmp.Diff(scale, version.Subresources.Scale); diff != "" {
		t.Errorf("scale subresource (-want +got):\n%s", diff)
	}
	if names := tenants.Spec.Names; names.ShortNames[0] != "tcp" || names.Categories[0] != "kamaji" {
		t.Errorf("names are %+v", names)
	}
	status := version.Schema.OpenAPIV3Schema.Properties["status"].Properties
	for _, name := range []string{
		"observedGeneration", "controlPlaneEndpoint", "storage", "certificates", "kubeconfig", "kubernetesResources", "kubeadmconfig", "kubeadmPhase", "addons",
	} {
		if _, ok := status[name]; !ok {
			t.Errorf("there is no status.%s", name)
		}
	}
	if stores := crd(t, "kamaji.clastix.io_datastores.yaml"); stores.Spec.Scope != apiextensionsv1.ClusterScoped {
		t.Errorf("DataStores are %s", stores.Spec.Scope)
	}
	if generators := crd(t, "kamaji.clastix.io_kubeconfiggenerators.yaml"); generators.Spec.Names.ShortNames[0] != "kc" {
		t.Errorf("names are %+v", generators.Spec.Names)
	}
}

func crd(t *testing.T, file string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testenv.Root(), "config/controlplane/crd/bases", file))
	if err != nil {
		t.Fatal(err)
	}
	out := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(data, out); err != nil {
		t.Fatal(err)
	}
	return out
}
