// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cluster"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/hosts"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/images"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/manifests"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/node"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/rootfs"
)

// answer is how long webhooks that were just installed may take to answer.
const answer = 5 * time.Minute

// addon is what Provide applies once the images of the same name are loaded.
type addon struct {
	needs    []string // other names, provided before
	manifest func(ctx context.Context, log *progress.Log, root string) (string, error)
	// settings is applied after it, as soon as its webhooks answer.
	settings func(ctx context.Context) (string, error)
}

// addons are the names of images.OnDemand that are more than images.
var addons = map[string]addon{
	"storage":          {manifest: storage},
	"postgres":         {needs: []string{"storage"}, manifest: postgres},
	"mariadb":          {needs: []string{"storage"}, manifest: datastore("mariadb")},
	"metallb":          {manifest: metalLB, settings: metalLBPool},
	"network-policies": {manifest: func(context.Context, *progress.Log, string) (string, error) { return manifests.KubeRouter, nil }},
}

// Provide builds images on demand, as images.OnDemand names them, loads them
// where they run, and applies the manifests that belong to them. It doesn't
// wait for what they start.
func Provide(ctx context.Context, log *progress.Log, name string) error {
	for _, needed := range addons[name].needs {
		if err := Provide(ctx, log, needed); err != nil {
			return err
		}
	}
	archive, err := extra(ctx, log, name)
	if err != nil {
		return err
	}
	// Tenants' workers need what belongs to a Kubernetes, and nothing else.
	bare := addons[name].manifest == nil
	if err := log.Step("loading images of "+name, func() error { return loadAll(ctx, archive, bare) }); err != nil || bare {
		return err
	}
	return log.Step("applying "+name, func() error {
		root, err := cache.Root()
		if err != nil {
			return err
		}
		manifest, err := addons[name].manifest(ctx, log, root)
		if err != nil {
			return err
		}
		if err := cluster.Apply(ctx, manifest); err != nil || addons[name].settings == nil {
			return err
		}
		settings, err := addons[name].settings(ctx)
		if err != nil {
			return err
		}
		return accepted(ctx, settings)
	})
}

// accepted applies a manifest as soon as the webhooks that judge it answer.
func accepted(ctx context.Context, manifest string) error {
	ctx, cancel := context.WithTimeout(ctx, answer)
	defer cancel()
	for {
		err := cluster.Apply(ctx, manifest)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}

// extra is the archive with the images of a name.
func extra(ctx context.Context, log *progress.Log, name string) (string, error) {
	demanded, err := images.Demand(name)
	if err != nil {
		return "", err
	}
	roots, err := rootfs.Build(ctx, log)
	if err != nil {
		return "", err
	}
	mode, err := images.Choose(ctx)
	if err != nil {
		return "", err
	}
	// Only a published image brings its own; those of the lab's name are always built.
	if demanded.Addition != "" && (mode == images.ModeBuild || len(demanded.Modules) > 0) {
		if roots, err = roots.With(ctx, log, demanded.Addition); err != nil {
			return "", err
		}
	}
	set := binaries.Set{}
	if len(demanded.Modules) > 0 {
		if set, err = binaries.Build(ctx, log, demanded.Modules...); err != nil {
			return "", err
		}
	}
	return images.Extra(ctx, log, mode.Source(set, roots), demanded)
}

// loadAll loads an archive into the management cluster, and the hosts if asked to.
func loadAll(ctx context.Context, archive string, andHosts bool) error {
	if err := cluster.Load(ctx, archive); err != nil || !andHosts {
		return err
	}
	names, err := hosts.List(ctx)
	if err != nil {
		return err
	}
	for _, host := range names {
		if err := node.ImportFile(ctx, host, archive); err != nil {
			return err
		}
	}
	return nil
}

// storage is the StorageClass that claims get by default, with folders of the nodes.
func storage(ctx context.Context, _ *progress.Log, root string) (string, error) {
	module, err := binaries.Fetch(ctx, root, "local-path", "github.com/rancher/local-path-provisioner")
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(filepath.Join(module.Dir, "deploy", "local-path-storage.yaml"))
	if err != nil {
		return "", err
	}
	return replaceAll(string(content), map[string]string{
		"image: busybox\n":                 "image: " + images.Toolbox + "\n",
		"  name: local-path\nprovisioner:": "  name: local-path\n  annotations:\n    storageclass.kubernetes.io/is-default-class: \"true\"\nprovisioner:",
	})
}

// metalLB is MetalLB without BGP: one node answers for an address on the lab's network.
func metalLB(ctx context.Context, _ *progress.Log, root string) (string, error) {
	module, err := binaries.Fetch(ctx, root, "metallb", "go.universe.tf/metallb")
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(filepath.Join(module.Dir, "config", "manifests", "metallb-native.yaml"))
	return string(content), err
}

func metalLBPool(ctx context.Context) (string, error) {
	first, last, err := cluster.BalancedAddresses(ctx)
	if err != nil {
		return "", err
	}
	return manifests.MetalLBPool(first, last)
}

// replaceAll wants every old text to be there: a later release may have changed it.
func replaceAll(manifest string, texts map[string]string) (string, error) {
	for old, text := range texts {
		if !strings.Contains(manifest+"\n", old) {
			return "", fmt.Errorf("the manifest has no %q", old)
		}
		manifest = strings.ReplaceAll(manifest+"\n", old, text)
	}
	return manifest, nil
}

// datastore renders a folder of config/datastore.
func datastore(name string) func(context.Context, *progress.Log, string) (string, error) {
	return func(ctx context.Context, log *progress.Log, root string) (string, error) {
		set, err := binaries.Build(ctx, log, "kustomize")
		if err != nil {
			return "", err
		}
		return command.Output(ctx, set.Path("kustomize"), "build", filepath.Join(root, "config", "datastore", name))
	}
}

// postgres is the DataStore of config/datastore/postgres and a second one like it.
func postgres(ctx context.Context, log *progress.Log, root string) (string, error) {
	one, err := datastore("postgres")(ctx, log, root)
	if err != nil {
		return "", err
	}
	return strings.Join([]string{one, Another(one, "postgres", "postgres-2")}, "\n---\n"), nil
}

// Another is the manifest of a DataStore in kamaji-system as a second instance:
// all in a namespace of its own, called like its DataStore.
func Another(manifest, name, second string) string {
	documents := []string{"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: " + second + "\n"}
	for document := range strings.SplitSeq(manifest, "\n---\n") {
		switch {
		case strings.Contains(document, "kind: NetworkPolicy\n"):
			// It lets the manager in by being in its namespace.
			continue
		case strings.Contains(document, "kind: DataStore\n"):
			document = strings.Replace(document, "\n  name: "+name+"\n", "\n  name: "+second+"\n", 1)
		}
		documents = append(documents, strings.ReplaceAll(document, "kamaji-system", second))
	}
	return strings.Join(documents, "\n---\n")
}
