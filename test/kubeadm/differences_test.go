// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// absent is the value of what is on one side only.
const absent = "absent"

// difference is a field of an object with what kubeadm and the engine write, in JSON or absent.
type difference struct{ object, path, kubeadm, engine string }

// explain fails for each difference that isn't intended, and marks those that are as used.
func explain(t *testing.T, minor string, want, have map[string]map[string]any, used map[int]bool) {
	t.Helper()
	var found []difference
	for object := range union(want, have) {
		for _, d := range compare("", structured(t, want[object]), structured(t, have[object])) {
			d.object = object
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b difference) int { return strings.Compare(a.object+a.path, b.object+b.path) })
	for _, d := range found {
		i := slices.IndexFunc(intended, func(known intention) bool { return known.covers(minor, d) })
		if i < 0 {
			t.Errorf("%s %s\n  kubeadm: %s\n  engine:  %s", d.object, d.path, d.kubeadm, d.engine)
			continue
		}
		used[i] = true
	}
}

// structured reads the documents in a ConfigMap, so that they are compared by field. Encoders write fields that nobody has
// set as empty, or as a duration of zero; in all these documents that is the same as nothing.
func structured(t *testing.T, object map[string]any) any {
	t.Helper()
	if object == nil {
		return nil
	}
	data, _ := object["data"].(map[string]any)
	for key, value := range data {
		text, _ := value.(string)
		var document map[string]any
		if key != "Corefile" {
			if err := yaml.Unmarshal([]byte(text), &document); err != nil {
				t.Fatalf("%s: %v", key, err)
			}
			data[key] = said(document)
		}
	}
	return object
}

// said is a tree without what says nothing.
func said(value any) any {
	tree, ok := value.(map[string]any)
	if !ok {
		return value
	}
	for key, inner := range tree {
		switch inner := said(inner); inner {
		case nil, "", "0s": // comparable: maps are never equal here
			delete(tree, key)
		default:
			tree[key] = inner
		}
	}
	if len(tree) == 0 {
		return nil
	}
	return tree
}

// compare two trees. A part that only one side has is one difference.
func compare(path string, want, have any) []difference {
	switch want := want.(type) {
	case map[string]any:
		if have, ok := have.(map[string]any); ok {
			var out []difference
			for key := range union(want, have) {
				out = append(out, compare(strings.TrimPrefix(path+"/"+key, "/"), want[key], have[key])...)
			}
			return out
		}
	case []any:
		if have, ok := have.([]any); ok && len(have) == len(want) {
			var out []difference
			for i := range want {
				out = append(out, compare(fmt.Sprintf("%s/%d", path, i), want[i], have[i])...)
			}
			return out
		}
	}
	if a, b := text(want), text(have); a != b {
		return []difference{{path: path, kubeadm: a, engine: b}}
	}
	return nil
}

func text(value any) string {
	if value == nil {
		return absent
	}
	data, err := json.Marshal(value)
	if err != nil {
		panic(err) // it came as YAML
	}
	return string(data)
}

func union[V any](a, b map[string]V) map[string]bool {
	out := map[string]bool{}
	for key := range maps.Keys(a) {
		out[key] = true
	}
	for key := range maps.Keys(b) {
		out[key] = true
	}
	return out
}
