// SPDX-License-Identifier: Apache-2.0

// Package manifests checks what a release consists of, as clusterctl and
// Cluster API will read it: component files, metadata, settings and templates.
package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/cluster-api/cmd/clusterctl/client/yamlprocessor"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// provider is one of the two providers, as this package expects it to be packaged.
type provider struct {
	tree      string // folder below config/
	label     string // clusterctl's label, the prefix of its folder in a repository
	namespace string
	prefix    string          // of the names of its cluster-scoped objects
	contract  string          // API version that speaks the contract
	group     string          // API group of the contract's kinds
	kinds     map[string]bool // the contract's kinds; true: a template, which has no status that counts
	file      string          // in a release
}

// providers are both of them.
var providers = []provider{
	{
		tree: "controlplane", label: "control-plane-kamaji", namespace: "kamaji-system", prefix: "kamaji-",
		contract: "v1alpha2", group: "controlplane.cluster.x-k8s.io", file: "control-plane-components.yaml",
		kinds: map[string]bool{"KamajiControlPlane": false, "KamajiControlPlaneTemplate": true},
	},
	{
		tree: "infrastructure", label: "infrastructure-rack", namespace: "rack-system", prefix: "rack-",
		contract: "v1alpha1", group: "infrastructure.cluster.x-k8s.io", file: "infrastructure-components.yaml",
		kinds: map[string]bool{"RackCluster": false, "RackClusterTemplate": true, "RackMachine": false, "RackMachineTemplate": true},
	},
}

// rendered caches builds by folder: each takes a second.
var rendered sync.Map

// build renders a kustomize folder, relative to the repository, with variables left as they are.
func build(folder string) (string, error) {
	type result struct {
		out string
		err error
	}
	once, _ := rendered.LoadOrStore(folder, sync.OnceValue(func() result {
		command := exec.Command("go", "tool", "-modfile=hack/tools/go.mod", "kustomize", "build", folder)
		command.Dir = testenv.Root()
		var stderr bytes.Buffer
		command.Stderr = &stderr
		out, err := command.Output()
		if err != nil {
			err = fmt.Errorf("building %s: %w: %s", folder, err, stderr.String())
		}
		return result{string(out), err}
	}))
	r := once.(func() result)()
	return r.out, r.err
}

// components renders a provider's component file as clusterctl does, with every variable at its default.
func (p provider) components() ([]*unstructured.Unstructured, error) {
	out, err := build(filepath.Join("config", p.tree, "default"))
	if err != nil {
		return nil, err
	}
	return expand([]byte(out), nil)
}

// expand substitutes variables as clusterctl does and parses the result. A variable without default and value is an error.
func expand(content []byte, values map[string]string) ([]*unstructured.Unstructured, error) {
	content, err := yamlprocessor.NewSimpleProcessor().Process(content, func(name string) (string, error) {
		if value, set := values[name]; set {
			return value, nil
		}
		return "", fmt.Errorf("%s has no value", name)
	})
	if err != nil {
		return nil, err
	}
	return parse(content)
}

// parse reads the objects of a YAML file.
func parse(content []byte) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

// read returns a file of the repository.
func read(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(testenv.Root(), name))
}
