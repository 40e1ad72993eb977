// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"context"
	"iter"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/cluster-api/cmd/clusterctl/client/yamlprocessor"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// values are what a user of the templates has to give: clusterctl's own, and the gateway's.
var values = map[string]string{
	"CLUSTER_NAME": "demo", "NAMESPACE": "default", "KUBERNETES_VERSION": "v1.36.3",
	"CONTROL_PLANE_MACHINE_COUNT": "1", "WORKER_MACHINE_COUNT": "1",
	"KAMAJI_GATEWAY_DOMAIN": "k8s.example.com", "KAMAJI_GATEWAY_PRIVATE_ADDRESS": "10.0.0.100",
}

// templates returns the content of each cluster template by its file name.
func templates(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testenv.Root(), "templates", "cluster-template*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no templates: %v", err)
	}
	contents := map[string][]byte{}
	for _, file := range files {
		content, err := read("templates/" + filepath.Base(file))
		if err != nil {
			t.Fatal(err)
		}
		contents[filepath.Base(file)] = content
	}
	return contents
}

// A template needs no other values than the documented ones, and every variable is documented.
func TestTemplateVariables(t *testing.T) {
	documentation, err := read("docs/variables.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range templates(t) {
		variables, err := yamlprocessor.NewSimpleProcessor().GetVariableMap(content)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for variable, value := range variables {
			if _, given := values[variable]; !given && value == nil {
				t.Errorf("%s: %s has no default", name, variable)
			}
			if !strings.Contains(string(documentation), "`"+variable+"`") {
				t.Errorf("%s: %s is not in docs/variables.md", name, variable)
			}
		}
		objects, err := expand(content, values)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, object := range objects {
			if object.GetNamespace() != values["NAMESPACE"] {
				t.Errorf("%s: %s %s is in namespace %q", name, object.GetKind(), object.GetName(), object.GetNamespace())
			}
		}
	}
}

// The lab's flavor is the default template with kubelet and kubeadm settings for containers, and nothing else.
func TestLabTemplateDiffersInContainerSettingsOnly(t *testing.T) {
	contents := templates(t)
	plain, err := expand(contents["cluster-template.yaml"], values)
	if err != nil {
		t.Fatal(err)
	}
	lab, err := expand(contents["cluster-template-lab.yaml"], values)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range lab {
		switch object.GetKind() {
		case "KamajiControlPlane":
			unstructured.RemoveNestedField(object.Object, "spec", "kubelet")
		case "KubeadmConfigTemplate":
			unstructured.RemoveNestedField(object.Object, "spec", "template", "spec", "joinConfiguration")
		}
	}
	if diff := cmp.Diff(plain, lab); diff != "" {
		t.Errorf("default template (-) and lab template (+) differ:\n%s", diff)
	}
}

// An API server with Cluster API's CRDs and ours accepts what components, templates, samples and datastore manifests
// say, unknown fields being errors. Objects of cert-manager are left out: its CRDs are not in its Go module as such.
func TestServerAcceptsEverything(t *testing.T) {
	capi := module(t, "sigs.k8s.io/cluster-api")
	_, c := testenv.Start(t, runtime.NewScheme(), "config/controlplane/crd/bases", "config/infrastructure/crd/bases",
		filepath.Join(capi, "core/config/crd/bases"), filepath.Join(capi, "bootstrap/kubeadm/config/crd/bases"))
	for file, objects := range everything(t) {
		for _, object := range objects {
			group := object.GroupVersionKind().Group
			if group == "cert-manager.io" || object.GetKind() == "CustomResourceDefinition" {
				continue
			}
			options := []client.CreateOption{client.FieldValidation("Strict")}
			if object.GetKind() != "Namespace" {
				options = append(options, client.DryRunAll)
			}
			if err := c.Create(context.Background(), object.DeepCopy(), options...); err != nil {
				t.Errorf("%s: %s %s: %v", file, object.GetKind(), object.GetName(), err)
			}
		}
	}
}

// everything returns all objects that users apply, by where they come from, those with Namespaces first.
func everything(t *testing.T) iter.Seq2[string, []*unstructured.Unstructured] {
	t.Helper()
	return func(yield func(string, []*unstructured.Unstructured) bool) {
		for _, p := range providers {
			objects, err := p.components()
			if err != nil {
				t.Fatal(err)
			}
			if !yield(p.file, objects) {
				return
			}
		}
		for _, folder := range []string{"config/datastore/etcd", "config/datastore/etcd-3", "config/datastore/lab", "config/datastore/postgres", "config/datastore/mariadb"} {
			if !yield(folder, parsed(t, folder, func() ([]byte, error) { out, err := build(folder); return []byte(out), err })) {
				return
			}
		}
		for name, content := range templates(t) {
			objects, err := expand(content, values)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !yield(name, objects) {
				return
			}
		}
		samples, err := filepath.Glob(filepath.Join(testenv.Root(), "config/samples/*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, sample := range samples {
			name := "config/samples/" + filepath.Base(sample)
			if !yield(name, parsed(t, name, func() ([]byte, error) { return read(name) })) {
				return
			}
		}
	}
}

// parsed reads the objects that content returns.
func parsed(t *testing.T, name string, content func() ([]byte, error)) []*unstructured.Unstructured {
	t.Helper()
	text, err := content()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := parse(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return objects
}

// module is the folder of a module that go.mod pins.
func module(t *testing.T, path string) string {
	t.Helper()
	command := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", path)
	command.Dir = testenv.Root()
	out, err := command.Output()
	if err != nil {
		t.Fatalf("finding module %s: %v", path, err)
	}
	return strings.TrimSpace(string(out))
}
