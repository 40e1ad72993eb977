// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"
	"sigs.k8s.io/yaml"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

func TestMetadata(t *testing.T) {
	content, err := read("metadata.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var metadata clusterctlv1.Metadata
	if err := yaml.UnmarshalStrict(content, &metadata); err != nil {
		t.Fatal(err)
	}
	if got, want := metadata.GroupVersionKind(), clusterctlv1.GroupVersion.WithKind("Metadata"); got != want {
		t.Errorf("metadata.yaml is %s, want %s", got, want)
	}
	if len(metadata.ReleaseSeries) == 0 || metadata.ReleaseSeries[0].Contract != "v1beta2" {
		t.Errorf("release series %v: the newest comes first and speaks v1beta2", metadata.ReleaseSeries)
	}
	if !slices.ContainsFunc(metadata.ReleaseSeries, func(s clusterctlv1.ReleaseSeries) bool { return s.Major == 0 && s.Minor == 1 }) {
		t.Error("no entry for v0.1, which is released")
	}
	linked, err := read("infrastructure/metadata.yaml")
	if err != nil || string(linked) != string(content) {
		t.Errorf("infrastructure/metadata.yaml is not metadata.yaml: %v", err)
	}
}

// Cluster API's create-local-repository.py reads one object from each folder that is given to it.
func TestClusterctlSettings(t *testing.T) {
	for i, folder := range []string{".", "infrastructure"} {
		content, err := read(filepath.Join(folder, "clusterctl-settings.json"))
		if err != nil {
			t.Fatal(err)
		}
		var settings struct {
			Name   string
			Config struct{ ComponentsFile, NextVersion, ConfigFolder string }
		}
		if err := json.Unmarshal(content, &settings); err != nil {
			t.Fatal(err)
		}
		p := providers[i]
		if settings.Name != p.label || settings.Config.ComponentsFile != p.file {
			t.Errorf("%s: %s with %s, want %s with %s", folder, settings.Name, settings.Config.ComponentsFile, p.label, p.file)
		}
		if settings.Config.NextVersion == "" {
			t.Errorf("%s: no nextVersion", folder)
		}
		for _, name := range []string{filepath.Join(settings.Config.ConfigFolder, "kustomization.yaml"), "metadata.yaml"} {
			if _, err := read(filepath.Join(folder, name)); err != nil {
				t.Errorf("%s: %v", folder, err)
			}
		}
	}
}

// Cluster API's Tiltfile loads a list of providers with paths relative to each one's context.
func TestTiltProvider(t *testing.T) {
	content, err := read("tilt-provider.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var entries []struct {
		Name   string `json:"name"`
		Config struct {
			Context         string   `json:"context"`
			Image           string   `json:"image"`
			Label           string   `json:"label"`
			GoMain          string   `json:"go_main"`
			KustomizeFolder string   `json:"kustomize_folder"`
			LiveReloadDeps  []string `json:"live_reload_deps"`
		} `json:"config"`
	}
	if err := yaml.UnmarshalStrict(content, &entries); err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(providers) {
		t.Fatalf("%d entries, want %d", len(entries), len(providers))
	}
	for _, entry := range entries {
		for _, path := range append(entry.Config.LiveReloadDeps, entry.Config.GoMain, entry.Config.KustomizeFolder, ".") {
			if _, err := os.Stat(filepath.Join(testenv.Root(), entry.Config.Context, path)); err != nil {
				t.Errorf("%s: %v", entry.Name, err)
			}
		}
	}
}
