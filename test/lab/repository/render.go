// SPDX-License-Identifier: Apache-2.0

package repository

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
)

const (
	// stagingImages is the registry in the kustomize trees of Cluster API's module; a release replaces it.
	stagingImages = "gcr.io/k8s-staging-cluster-api/"
	// releaseImages is the registry of Cluster API's releases, under whose names the lab builds its images.
	releaseImages = "registry.k8s.io/cluster-api/"
	// chartKubeVersion is what cert-manager's chart is rendered for: it has no PodSecurityPolicy any more.
	chartKubeVersion = "1.30.0"
)

// clusterAPI renders core and the kubeadm bootstrap provider as their release does.
func clusterAPI(ctx context.Context, root, folder, kustomize string) (part, error) {
	m, err := binaries.Fetch(ctx, root, "cluster-api", "sigs.k8s.io/cluster-api")
	if err != nil {
		return part{}, err
	}
	p := part{version: m.Version, key: cache.Hash(layout, m.Version, filepath.Dir(kustomize))}
	p.folder = filepath.Join(folder, "cluster-api-"+p.key)
	return p, cache.Make(p.folder, func(temporary string) error {
		replace := strings.NewReplacer(
			stagingImages+"cluster-api-controller:main", releaseImages+"cluster-api-controller:"+m.Version,
			stagingImages+"kubeadm-bootstrap-controller:main", releaseImages+"kubeadm-bootstrap-controller:"+m.Version,
			"imagePullPolicy: Always", "imagePullPolicy: IfNotPresent",
		)
		for tree, file := range map[string]string{
			"core/config/default":              "core-components.yaml",
			"bootstrap/kubeadm/config/default": "bootstrap-components.yaml",
		} {
			out, err := command.Output(ctx, kustomize, "build", filepath.Join(m.Dir, tree))
			if err != nil {
				return err
			}
			out = replace.Replace(out) + "\n"
			if strings.Contains(out, stagingImages) {
				return fmt.Errorf("%s of %s names an image that no release has", tree, m.Version)
			}
			if err := write(filepath.Join(temporary, file), out); err != nil {
				return err
			}
		}
		return copyFile(filepath.Join(m.Dir, "metadata.yaml"), filepath.Join(temporary, "metadata.yaml"))
	})
}

// certManager renders cert-manager's chart to the one file that clusterctl installs.
func certManager(ctx context.Context, root, folder, helm string) (part, error) {
	m, err := binaries.Fetch(ctx, root, "cert-manager", "github.com/cert-manager/cert-manager")
	if err != nil {
		return part{}, err
	}
	p := part{version: m.Version, key: cache.Hash(layout, m.Version, filepath.Dir(helm))}
	p.folder = filepath.Join(folder, "cert-manager-"+p.key)
	return p, cache.Make(p.folder, func(temporary string) error {
		chart := filepath.Join(temporary, "chart")
		if err := certManagerChart(m, chart); err != nil {
			return err
		}
		out, err := command.Command{
			Args: []string{
				helm, "template", "cert-manager", chart, "--namespace", "cert-manager", "--kube-version", chartKubeVersion,
				"--set", "installCRDs=true", "--set", "startupapicheck.enabled=false",
			},
			Env: []string{"HELM_CACHE_HOME=" + temporary, "HELM_CONFIG_HOME=" + temporary, "HELM_DATA_HOME=" + temporary},
		}.Output(ctx)
		if err != nil {
			return err
		}
		namespace := "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: cert-manager\n"
		if err := write(filepath.Join(temporary, "cert-manager.yaml"), namespace+out+"\n"); err != nil {
			return err
		}
		return os.RemoveAll(chart)
	})
}

// certManagerChart puts the chart together from its source, as cert-manager's release does: the version goes into
// Chart.yaml, and the CRDs, which are templates too, become one template.
func certManagerChart(m binaries.Download, folder string) error {
	source := filepath.Join(m.Dir, "deploy/charts/cert-manager")
	description, err := os.ReadFile(filepath.Join(source, "Chart.template.yaml"))
	if err != nil {
		return err
	}
	stamped := strings.NewReplacer("\nversion: v0.1.0", "\nversion: "+m.Version, "\nappVersion: v0.1.0", "\nappVersion: "+m.Version)
	if err := write(filepath.Join(folder, "Chart.yaml"), stamped.Replace(string(description))); err != nil {
		return err
	}
	templates, err := filepath.Glob(filepath.Join(source, "templates", "*"))
	if err != nil {
		return err
	}
	for _, file := range append(templates, filepath.Join(source, "values.yaml")) {
		name, err := filepath.Rel(source, file)
		if err != nil {
			return err
		}
		if err := copyFile(file, filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	crds, err := filepath.Glob(filepath.Join(m.Dir, "deploy/crds", "crd-*.yaml"))
	if err != nil {
		return err
	}
	var all bytes.Buffer
	for _, file := range crds {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fmt.Fprintf(&all, "---\n%s\n", bytes.TrimPrefix(content, []byte("---\n")))
	}
	return write(filepath.Join(folder, "templates", "crds.yaml"), "{{- if .Values.installCRDs }}\n"+all.String()+"{{- end }}\n")
}

// write makes a file and the folder it is in.
func write(path, content string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o644)
}
