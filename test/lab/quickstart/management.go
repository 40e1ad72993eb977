// SPDX-License-Identifier: Apache-2.0

package quickstart

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cluster"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/hosts"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/images"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/lab"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/manifests"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/repository"
)

// management is everything up to the point where a Cluster can be created.
func management() []Step {
	return []Step{
		{"management cluster in kind and two hosts", up},
		{"images of this tree", load},
		{"release artefacts and clusterctl repository", release},
		{"clusterctl init: cluster-api, kubeadm, kamaji, rack", initialize},
		{"DataStore default: etcd with TLS and authentication", datastore},
		{"KamajiGateway default: one public and one private address", gateway},
		{"RackHosts with pinned host keys", inventory},
		{"flannel for tenants by ClusterResourceSet", cni},
	}
}

func up(ctx context.Context, l *Lab) error {
	if err := lab.Up(ctx, l.log); err != nil {
		return err
	}
	if err := l.Open(ctx); err != nil {
		return err
	}
	return l.tools()
}

// load brings this tree's images into the cluster, and restarts what runs older ones of the same tag.
func load(ctx context.Context, l *Lab) error {
	archive, err := images.Product(ctx, l.log)
	if err != nil {
		return err
	}
	stamp := filepath.Join(l.folder, "loaded")
	nodes, err := l.Kubectl(ctx, "get", "nodes", "-o", "jsonpath={.items[*].metadata.uid}")
	if err != nil {
		return err
	}
	content, err := cache.HashFolder(archive)
	if err != nil {
		return err
	}
	current := content + " " + nodes
	if before, err := os.ReadFile(stamp); err == nil && string(before) == current {
		return nil
	}
	if err := cluster.Load(ctx, archive); err != nil {
		return err
	}
	if err := cluster.Restart(ctx, "kamaji-system", "rack-system"); err != nil {
		return err
	}
	return os.WriteFile(stamp, []byte(current), 0o644)
}

func release(ctx context.Context, l *Lab) error {
	programs, err := binaries.Build(ctx, l.log, repository.Modules...)
	if err != nil {
		return err
	}
	l.repository, err = repository.Build(ctx, l.log, programs)
	return err
}

// initialize installs the providers, or brings their manifests up to date where they are installed.
func initialize(ctx context.Context, l *Lab) error {
	providers := []struct{ namespace, deployment string }{
		{"capi-system", "capi-controller-manager"},
		{"capi-kubeadm-bootstrap-system", "capi-kubeadm-bootstrap-controller-manager"},
		{"kamaji-system", "kamaji-controller-manager"},
		{"rack-system", "rack-controller-manager"},
	}
	last := providers[len(providers)-1]
	if _, err := l.Kubectl(ctx, "-n", last.namespace, "get", "deployment", last.deployment); err != nil {
		if _, err := l.clusterctl(ctx, nil, append([]string{"init"}, l.repository.InitArgs()...)...); err != nil {
			return err
		}
	} else if err := l.upgrade(ctx); err != nil {
		return err
	}
	for _, p := range providers {
		if _, err := l.Kubectl(ctx, "-n", p.namespace, "rollout", "status", "deployment", p.deployment, "--timeout", patience.String()); err != nil {
			return err
		}
	}
	return nil
}

// upgrade applies the components of this tree over those of the same version that are installed.
func (l *Lab) upgrade(ctx context.Context) error {
	for flag, provider := range map[string]string{"--control-plane": l.repository.ControlPlane, "--infrastructure": l.repository.Infrastructure} {
		components, err := l.clusterctl(ctx, nil, "generate", "provider", flag, provider)
		if err != nil {
			return err
		}
		if err := l.Apply(ctx, l.Kubeconfig, components); err != nil {
			return err
		}
	}
	return nil
}

func datastore(ctx context.Context, l *Lab) error {
	root, err := cache.Root()
	if err != nil {
		return err
	}
	var refused error
	err = Until(ctx, "the webhooks to accept objects", func() error {
		_, err := l.Kubectl(ctx, "apply", "--server-side", "-k", filepath.Join(root, "config", "datastore", "lab"))
		if err != nil && strings.Contains(err.Error(), "is invalid") {
			refused, err = err, nil // no waiting helps
		}
		return err
	})
	if err = errors.Join(err, refused); err != nil {
		return err
	}
	return l.Condition(ctx, "", "datastore", "default", "Ready")
}

func gateway(ctx context.Context, l *Lab) error {
	manifest := fmt.Sprintf(`
apiVersion: controlplane.cluster.x-k8s.io/v1alpha2
kind: KamajiGateway
metadata:
  name: default
spec:
  domain: %s
  publicAddress: %s
  privateAddress: %s
  dataPlane:
    nodeSelector:
      kamaji.clastix.io/gateway: "true"
`, Domain, l.Public, l.Private)
	if err := l.Apply(ctx, l.Kubeconfig, manifest); err != nil {
		return err
	}
	return l.Condition(ctx, "", "kamajigateway", "default", "Ready")
}

func inventory(ctx context.Context, l *Lab) error {
	file, err := hosts.PrivateKey()
	if err != nil {
		return err
	}
	key, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var manifest strings.Builder
	fmt.Fprintf(&manifest, `
apiVersion: v1
kind: Secret
metadata:
  name: rack-ssh
  namespace: %s
stringData:
  ssh-privatekey: |
%s
`, Namespace, indent(string(key), "    "))
	for number := range lab.Hosts {
		name := hosts.Name(number)
		hostKey, err := hosts.HostKey(ctx, name)
		if err != nil {
			return err
		}
		address, err := hosts.Address(ctx, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(&manifest, `---
apiVersion: infrastructure.cluster.x-k8s.io/v1alpha1
kind: RackHost
metadata:
  name: %s
  namespace: %s
  labels:
    rack: lab
spec:
  failureDomain: rack-%d
  ssh:
    address: %s
    user: root
    privateKeySecretRef:
      name: rack-ssh
    hostKeys:
    - %s
`, name, Namespace, number, address, hostKey)
	}
	if err := l.Apply(ctx, l.Kubeconfig, manifest.String()); err != nil {
		return err
	}
	for number := range lab.Hosts {
		if err := l.Condition(ctx, Namespace, "rackhost", hosts.Name(number), "HostKeyVerified"); err != nil {
			return err
		}
	}
	return nil
}

func cni(ctx context.Context, l *Lab) error {
	manifest, err := manifests.FlannelResourceSet(Namespace, netip.MustParsePrefix(podCIDR), "eth0")
	if err != nil {
		return err
	}
	// Cluster API's managers start anew on a machine that is busy for too long, and answer no webhook meanwhile.
	return Until(ctx, "Cluster API's webhooks", func() error { return l.Apply(ctx, l.Kubeconfig, manifest) })
}

func indent(text, prefix string) string {
	return prefix + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+prefix)
}
