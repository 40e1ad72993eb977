// SPDX-License-Identifier: Apache-2.0

package repository

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// Every URL of the configuration is a file of the repository, in the folder that clusterctl derives from the provider's
// label and version, and making the same repository again changes nothing.
func TestAssemble(t *testing.T) {
	source := t.TempDir()
	for _, name := range []string{
		"core-components.yaml", "bootstrap-components.yaml", "control-plane-components.yaml", "infrastructure-components.yaml",
		"metadata.yaml", "cluster-template.yaml", "cluster-template-lab.yaml", "cert-manager.yaml",
	} {
		if err := os.WriteFile(filepath.Join(source, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	of := func(version string) part { return part{folder: source, version: version, key: version} }
	base := t.TempDir()
	r, err := assemble(base, parts{release: of("v0.1.0"), clusterAPI: of("v1.14.2"), certManager: of("v1.11.5")})
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(r.Config)
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Providers   []struct{ Name, Type, URL string } `json:"providers"`
		CertManager struct{ URL, Version string }      `json:"cert-manager"`
	}
	if err := yaml.Unmarshal(content, &config); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"cluster-api": "cluster-api/v1.14.2/core-components.yaml",
		"kubeadm":     "bootstrap-kubeadm/v1.14.2/bootstrap-components.yaml",
		"kamaji":      "control-plane-kamaji/v0.1.0/control-plane-components.yaml",
		"rack":        "infrastructure-rack/v0.1.0/infrastructure-components.yaml",
	}
	for _, p := range config.Providers {
		if got := strings.TrimPrefix(p.URL, r.Folder+"/"); got != want[p.Name] {
			t.Errorf("%s is at %s, want %s", p.Name, got, want[p.Name])
		}
		for _, file := range []string{p.URL, filepath.Join(filepath.Dir(p.URL), "metadata.yaml")} {
			if _, err := os.Stat(file); err != nil {
				t.Error(err)
			}
		}
	}
	if len(config.Providers) != len(want) {
		t.Errorf("%d providers, want %d", len(config.Providers), len(want))
	}
	for _, name := range []string{"cluster-template.yaml", "cluster-template-lab.yaml"} {
		if _, err := os.Stat(filepath.Join(r.Folder, "infrastructure-rack/v0.1.0", name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(config.CertManager.URL); err != nil || config.CertManager.Version != "v1.11.5" {
		t.Errorf("cert-manager %s at %s: %v", config.CertManager.Version, config.CertManager.URL, err)
	}

	before, err := os.Stat(r.Config)
	if err != nil {
		t.Fatal(err)
	}
	again, err := assemble(base, parts{release: of("v0.1.0"), clusterAPI: of("v1.14.2"), certManager: of("v1.11.5")})
	if err != nil || again.Folder != r.Folder {
		t.Fatalf("the second time it is %s: %v", again.Folder, err)
	}
	if after, err := os.Stat(r.Config); err != nil || !os.SameFile(before, after) {
		t.Errorf("the second time the files are written anew: %v", err)
	}
}
