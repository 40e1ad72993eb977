// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"net/netip"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// The ClusterResourceSet carries a manifest in which every document is a named object and the pod network and device
// are the ones asked for.
func TestFlannelResourceSet(t *testing.T) {
	out, err := FlannelResourceSet("default", netip.MustParsePrefix("10.42.0.0/16"), "eth7")
	if err != nil {
		t.Fatal(err)
	}
	documents := strings.Split("\n"+out, "\n---\n")[1:]
	var configMap struct{ Data map[string]string }
	if err := yaml.Unmarshal([]byte(documents[0]), &configMap); err != nil {
		t.Fatal(err)
	}
	manifest := configMap.Data["flannel.yaml"]
	for _, want := range []string{`"Network": "10.42.0.0/16"`, "--iface=eth7", "image: " + FlannelImage} {
		if !strings.Contains(manifest, want) {
			t.Errorf("the manifest lacks %q", want)
		}
	}
	for i, document := range strings.Split(manifest, "\n---\n") {
		var object unstructured.Unstructured
		if err := yaml.UnmarshalStrict([]byte(document), &object.Object); err != nil {
			t.Fatalf("document %d: %v", i, err)
		}
		if object.GetKind() == "" || object.GetName() == "" {
			t.Errorf("document %d has no kind or name", i)
		}
	}
}
