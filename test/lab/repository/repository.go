// SPDX-License-Identifier: Apache-2.0

// Package repository makes the local repository that clusterctl installs from:
// Cluster API core and the kubeadm bootstrap provider rendered from their Go
// module, cert-manager rendered from its chart, and both of our providers from
// the release artefacts of this tree. Nothing is fetched but Go modules.
package repository

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

// layout changes when this package writes other files than before from the same inputs.
const layout = "1"

// Modules are the modules of test/lab/modules whose programs Build calls.
var Modules = []string{"kustomize", "helm"}

// Repository is a finished repository.
type Repository struct {
	// Folder holds one folder per provider, as clusterctl wants it.
	Folder string
	// Config is the clusterctl configuration that names every provider of Folder by its absolute path.
	Config string
	// Core, Bootstrap, ControlPlane and Infrastructure are arguments for `clusterctl init`, as in "kubeadm:v1.14.2".
	// Versions are always given: without one clusterctl asks the internet for the newest.
	Core, Bootstrap, ControlPlane, Infrastructure string
	// Environment must be set for every call of clusterctl that uses Config; it keeps clusterctl off the network.
	Environment []string
}

// InitArgs are the provider flags of `clusterctl init`.
func (r Repository) InitArgs() []string {
	return []string{
		"--core", r.Core, "--bootstrap", r.Bootstrap,
		"--control-plane", r.ControlPlane, "--infrastructure", r.Infrastructure,
	}
}

// Build makes the release artefacts of this tree and a repository around them,
// reusing what the cache has from the same inputs. Set must have the programs
// of Modules.
func Build(ctx context.Context, log *progress.Log, set binaries.Set) (Repository, error) {
	root, err := cache.Root()
	if err != nil {
		return Repository{}, err
	}
	folder, err := cache.Dir()
	if err != nil {
		return Repository{}, err
	}
	folder = filepath.Join(folder, "repository")
	var parts parts
	steps := []struct {
		name string
		run  func() error
	}{
		{"release artefacts", func() (err error) { parts.release, err = release(ctx, root); return err }},
		{"Cluster API components", func() (err error) {
			parts.clusterAPI, err = clusterAPI(ctx, root, folder, set.Path("kustomize"))
			return err
		}},
		{"cert-manager manifest", func() (err error) {
			parts.certManager, err = certManager(ctx, root, folder, set.Path("helm"))
			return err
		}},
	}
	for _, step := range steps {
		if err := log.Step(step.name, step.run); err != nil {
			return Repository{}, fmt.Errorf("making the %s: %w", step.name, err)
		}
	}
	return assemble(folder, parts)
}

// parts are the inputs of a repository: folders with rendered files, and the versions they are.
type parts struct {
	release, clusterAPI, certManager part
}

// part is a folder of rendered files of one version. The key changes when the content does.
type part struct {
	folder, version, key string
}

// release runs `make release` and returns dist/.
func release(ctx context.Context, root string) (part, error) {
	version, err := command.Command{Args: []string{"make", "--silent", "--no-print-directory", "version"}, Dir: root}.Output(ctx)
	if err != nil {
		return part{}, err
	}
	if _, err := (command.Command{Args: []string{"make", "--no-print-directory", "release"}, Dir: root}).Output(ctx); err != nil {
		return part{}, err
	}
	dist := filepath.Join(root, "dist")
	key, err := cache.HashFolder(dist)
	return part{folder: dist, version: version, key: key}, err
}

// assemble lays the parts out as <provider label>/<version>/<files>, with the configuration beside them.
func assemble(base string, p parts) (Repository, error) {
	folder := filepath.Join(base, "clusterctl-"+cache.Hash(layout, base, p.release.key, p.release.version, p.clusterAPI.key, p.certManager.key))
	files := []struct{ from, to string }{
		{filepath.Join(p.clusterAPI.folder, "core-components.yaml"), p.path("cluster-api")},
		{filepath.Join(p.clusterAPI.folder, "metadata.yaml"), p.path("cluster-api")},
		{filepath.Join(p.clusterAPI.folder, "bootstrap-components.yaml"), p.path("bootstrap-kubeadm")},
		{filepath.Join(p.clusterAPI.folder, "metadata.yaml"), p.path("bootstrap-kubeadm")},
		{filepath.Join(p.release.folder, "control-plane-components.yaml"), p.path("control-plane-kamaji")},
		{filepath.Join(p.release.folder, "metadata.yaml"), p.path("control-plane-kamaji")},
		{filepath.Join(p.release.folder, "infrastructure-components.yaml"), p.path("infrastructure-rack")},
		{filepath.Join(p.release.folder, "metadata.yaml"), p.path("infrastructure-rack")},
		{filepath.Join(p.certManager.folder, "cert-manager.yaml"), p.path("cert-manager")},
	}
	templates, err := filepath.Glob(filepath.Join(p.release.folder, "cluster-template*.yaml"))
	if err != nil {
		return Repository{}, err
	}
	for _, template := range templates {
		files = append(files, struct{ from, to string }{template, p.path("infrastructure-rack")})
	}
	err = cache.Make(folder, func(temporary string) error {
		for _, file := range files {
			if err := copyFile(file.from, filepath.Join(temporary, file.to, filepath.Base(file.from))); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(temporary, "clusterctl.yaml"), []byte(p.configuration(folder)), 0o644)
	})
	return Repository{
		Folder:         folder,
		Config:         filepath.Join(folder, "clusterctl.yaml"),
		Core:           "cluster-api:" + p.clusterAPI.version,
		Bootstrap:      "kubeadm:" + p.clusterAPI.version,
		ControlPlane:   "kamaji:" + p.release.version,
		Infrastructure: "rack:" + p.release.version,
		Environment:    []string{"GOPROXY=off", "CLUSTERCTL_DISABLE_VERSIONCHECK=true"},
	}, err
}

// path is where a component lies inside the repository; the folder's name must equal the provider's label.
func (p parts) path(label string) string {
	version := p.release.version
	switch label {
	case "cluster-api", "bootstrap-kubeadm":
		version = p.clusterAPI.version
	case "cert-manager":
		version = p.certManager.version
	}
	return filepath.Join(label, version)
}

// configuration is clusterctl.yaml for a repository in folder.
func (p parts) configuration(folder string) string {
	at := func(label, file string) string { return filepath.Join(folder, p.path(label), file) }
	return fmt.Sprintf(`# Written by the lab; clusterctl needs absolute paths.
providers:
- {name: cluster-api, type: CoreProvider, url: %q}
- {name: kubeadm, type: BootstrapProvider, url: %q}
- {name: kamaji, type: ControlPlaneProvider, url: %q}
- {name: rack, type: InfrastructureProvider, url: %q}
cert-manager:
  url: %q
  version: %s
  timeout: 10m
CLUSTERCTL_DISABLE_VERSIONCHECK: "true"
`,
		at("cluster-api", "core-components.yaml"), at("bootstrap-kubeadm", "bootstrap-components.yaml"),
		at("control-plane-kamaji", "control-plane-components.yaml"), at("infrastructure-rack", "infrastructure-components.yaml"),
		at("cert-manager", "cert-manager.yaml"), p.certManager.version)
}

// copyFile copies one file, making its folder.
func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o644)
}
