// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
)

// kinds are the folders with cases, each with the type whose fields must have some.
var kinds = map[string]any{
	"tenantcontrolplane":  kamajiv1alpha1.TenantControlPlaneSpec{},
	"datastore":           kamajiv1alpha1.DataStoreSpec{},
	"kubeconfiggenerator": kamajiv1alpha1.KubeconfigGeneratorSpec{},
	"kamajicontrolplane":  controlplanev1.KamajiControlPlaneSpec{},
	"kamajigateway":       controlplanev1.KamajiGatewaySpec{},
	"rackcluster":         infrav1.RackClusterSpec{},
	"rackclustertemplate": infrav1.RackClusterTemplateSpec{},
	"rackhost":            infrav1.RackHostSpec{},
	"rackhostclaim":       infrav1.RackHostClaimSpec{},
	"rackmachine":         infrav1.RackMachineSpec{},
	"rackmachinetemplate": infrav1.RackMachineTemplateSpec{},
}

// unsupported begin the fields that no value is accepted for: they exist so that manifests of others are refused, or in
// an object that others are made from.
var unsupported = []string{"spec.deployment.externalClusterReference", "spec.template.spec.providerID"}

// anything ends the fields that every JSON value is right for, as far as the schema knows.
const anything = "spec.kubelet.configurationJSONPatches[].value"

// file is one file of cases.
type file struct {
	Base  map[string]any `json:"base"`
	Cases []fieldCase    `json:"cases"`
}

type fieldCase struct {
	Path   string         `json:"path"`
	Accept any            `json:"accept"`
	Reject any            `json:"reject"`
	Want   string         `json:"want"`
	With   map[string]any `json:"with"`
	Was    map[string]any `json:"was"`
}

// load reads the files of a kind, by name.
func load(t *testing.T, kind string) map[string]file {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(kind, "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases in %s (%v)", kind, err)
	}
	out := map[string]file{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var f file
		if err := yaml.UnmarshalStrict(data, &f); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out[path] = f
	}
	return out
}

// TestEveryFieldHasCases fails when somebody adds a field and no case.
func TestEveryFieldHasCases(t *testing.T) {
	for kind, spec := range kinds {
		t.Run(kind, func(t *testing.T) {
			accepted, refused := map[string]bool{}, map[string]bool{}
			for path, f := range load(t, kind) {
				for i, c := range f.Cases {
					if c.Accept == nil && c.Reject == nil || (c.Reject == nil) != (c.Want == "") {
						t.Errorf("%s, case %d (%s): it needs accept, or reject and want", path, i, c.Path)
					}
					accepted[c.Path] = accepted[c.Path] || c.Accept != nil
					refused[c.Path] = refused[c.Path] || c.Reject != nil
				}
			}
			for _, path := range fields(reflect.TypeOf(spec), "spec") {
				if !accepted[path] && !slices.ContainsFunc(unsupported, func(field string) bool { return strings.HasPrefix(path, field) }) {
					t.Errorf("%s: no value that is accepted", path)
				}
				if !refused[path] && path != anything {
					t.Errorf("%s: no value that is refused", path)
				}
			}
		})
	}
}

// fields are the paths of all fields below a type of this module. The types of
// others, such as a container, are one field each.
func fields(t reflect.Type, path string) []string {
	switch t.Kind() {
	case reflect.Pointer:
		return fields(t.Elem(), path)
	case reflect.Slice:
		if elem := t.Elem(); elem.Kind() == reflect.Struct && ours(elem) {
			return fields(elem, path+"[]")
		}
	case reflect.Struct:
		if ours(t) {
			var out []string
			for i := range t.NumField() {
				f := t.Field(i)
				name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
				switch {
				case strings.Contains(options, "inline") || name == "" && f.Anonymous:
					out = append(out, fields(f.Type, path)...)
				case name != "-":
					out = append(out, fields(f.Type, path+"."+name)...)
				}
			}
			return out
		}
	}
	return []string{path}
}

func ours(t reflect.Type) bool {
	return strings.HasPrefix(t.PkgPath(), "github.com/cluster-api-provider-kamaji/") && t.NumField() > 0 && t.Field(0).IsExported()
}

// object is the base with other fields set.
func object(base map[string]any, all ...map[string]any) (*unstructured.Unstructured, error) {
	out := (&unstructured.Unstructured{Object: base}).DeepCopy()
	return out, change(out, all...)
}

// change sets fields, in the order of their paths.
func change(o *unstructured.Unstructured, all ...map[string]any) error {
	for _, values := range all {
		for _, path := range slices.Sorted(maps.Keys(values)) {
			if err := set(o.Object, strings.Split(path, "."), runtime.DeepCopyJSONValue(values[path])); err != nil {
				return fmt.Errorf("setting %s: %w", path, err)
			}
		}
	}
	return nil
}

// set puts a value at a path, making what is missing on the way. A value "<none>" removes the field.
func set(at map[string]any, path []string, value any) error {
	name, list := strings.CutSuffix(path[0], "[]")
	if len(path) == 1 && !list {
		if value == "<none>" {
			delete(at, name)
		} else {
			at[name] = value
		}
		return nil
	}
	if list {
		elements, _ := at[name].([]any)
		if len(elements) == 0 {
			elements = []any{map[string]any{}}
		}
		at[name] = elements
		first, ok := elements[0].(map[string]any)
		if !ok || len(path) == 1 {
			return fmt.Errorf("%s has no objects", name)
		}
		return set(first, path[1:], value)
	}
	next, ok := at[name].(map[string]any)
	if !ok {
		next = map[string]any{}
		at[name] = next
	}
	return set(next, path[1:], value)
}
