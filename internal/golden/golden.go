// SPDX-License-Identifier: Apache-2.0

// Package golden compares what builders make with files that are read in reviews. With UPDATE=1 in the environment a
// test rewrites its files instead of failing.
package golden

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/apply"
)

// Text compares got with the content of the file at path, relative to the test's folder.
func Text(t testing.TB, path, got string) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); UPDATE=1 rewrites it:\n%s", path, diff)
	}
}

// Objects compares objects, in their order, with the YAML documents in the file at path: as package apply would send them.
func Objects(t testing.TB, path string, objects []client.Object) {
	t.Helper()
	var got strings.Builder
	for _, object := range objects {
		intent, err := apply.Intent(object)
		if err != nil {
			t.Fatal(err)
		}
		data, err := yaml.Marshal(intent.Object)
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString("---\n")
		got.Write(data)
	}
	Text(t, path, got.String())
}
