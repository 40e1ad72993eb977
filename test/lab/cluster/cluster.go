// SPDX-License-Identifier: Apache-2.0

// Package cluster runs the lab's management cluster: two nodes in kind, with
// static routes instead of a network plugin's daemon.
package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kind/pkg/cluster"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/engine"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/node"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

const (
	// Name is the name of the kind cluster and the prefix of its containers.
	Name = "kamaji-lab"
	// Network is the container network that kind makes; the lab's hosts are on it too.
	Network = "kind"

	controlPlane = Name + "-control-plane"
	worker       = Name + "-worker"
	// adminConf is the administrator's kubeconfig inside the control-plane node.
	adminConf = "/etc/kubernetes/admin.conf"
)

// configuration is kind's; both nodes take pods, the worker is the one that
// carries the gateway's addresses.
const configuration = `kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking:
  disableDefaultCNI: true
  podSubnet: ` + podSubnet + `
  serviceSubnet: 10.96.0.0/16
kubeadmConfigPatches:
- |
  kind: InitConfiguration
  nodeRegistration:
    taints: []
%snodes:
- role: control-plane
- role: worker
  labels:
    kamaji.clastix.io/gateway: "true"
`

// cgroupV1 lets kubelets start on hosts that still have version 1 control groups.
const cgroupV1 = `- |
  kind: KubeletConfiguration
  failCgroupV1: false
`

// Kubeconfig is the path of the administrator's kubeconfig on this machine.
func Kubeconfig() (string, error) {
	dir, err := cache.Dir()
	return filepath.Join(dir, "lab", "kubeconfig"), err
}

// Up brings the cluster up with a node image. One that runs from the same
// image is kept, any other is replaced. It returns whether the cluster is new.
func Up(ctx context.Context, log *progress.Log, image string) (bool, error) {
	kubeconfig, err := Kubeconfig()
	if err != nil {
		return false, err
	}
	provider := cluster.NewProvider(cluster.ProviderWithDocker())
	fresh := !healthy(ctx, image)
	if fresh {
		if err := Down(ctx); err != nil {
			return false, err
		}
		if err := log.Step("creating the management cluster", func() error {
			return create(ctx, provider, image, kubeconfig)
		}); err != nil {
			return false, err
		}
	}
	if err := provider.ExportKubeConfig(Name, kubeconfig, false); err != nil {
		return false, fmt.Errorf("writing %s: %w", kubeconfig, err)
	}
	return fresh, log.Step("connecting the nodes", func() error { return connect(ctx) })
}

// create makes the cluster; kind cleans up when it fails.
func create(ctx context.Context, provider *cluster.Provider, image, kubeconfig string) error {
	old, err := engine.CgroupV1(ctx)
	if err != nil {
		return err
	}
	patch := ""
	if old {
		patch = cgroupV1
	}
	if err := os.MkdirAll(filepath.Dir(kubeconfig), 0o755); err != nil {
		return err
	}
	return provider.Create(Name,
		cluster.CreateWithRawConfig(fmt.Appendf(nil, configuration, patch)), cluster.CreateWithNodeImage(image),
		cluster.CreateWithKubeconfigPath(kubeconfig), cluster.CreateWithDisplayUsage(false), cluster.CreateWithDisplaySalutation(false))
}

// healthy tells whether both nodes run from the image and have joined: kind, interrupted, leaves one that never will.
func healthy(ctx context.Context, image string) bool {
	for _, name := range []string{controlPlane, worker} {
		state, err := command.Output(ctx, "docker", "inspect", "--format", "{{.State.Running}} {{.Config.Image}}", name)
		if err != nil || state != "true "+image {
			return false
		}
	}
	_, err := kubectl(ctx, "get", "node", controlPlane, worker)
	return err == nil
}

// Down removes the cluster, if there is one.
func Down(ctx context.Context) error {
	provider := cluster.NewProvider(cluster.ProviderWithDocker())
	names, err := provider.List()
	if err != nil {
		return fmt.Errorf("listing clusters: %w", err)
	}
	if !slices.Contains(names, Name) {
		return nil
	}
	kubeconfig, err := Kubeconfig()
	if err != nil {
		return err
	}
	if err := provider.Delete(Name, kubeconfig); err != nil {
		return fmt.Errorf("deleting cluster %s: %w", Name, err)
	}
	return nil
}

// Load imports the images of a docker-archive into both nodes.
func Load(ctx context.Context, archive string) error {
	for _, name := range []string{controlPlane, worker} {
		if err := node.ImportFile(ctx, name, archive); err != nil {
			return err
		}
	}
	return nil
}

// Restart starts the Deployments and DaemonSets of the given namespaces anew,
// so that they run images loaded under an unchanged tag. Absent ones are skipped.
func Restart(ctx context.Context, namespaces ...string) error {
	for _, namespace := range namespaces {
		names, err := kubectl(ctx, "-n", namespace, "get", "deployments,daemonsets", "-o", "name")
		if err != nil {
			return err
		}
		if names == "" {
			continue
		}
		if _, err := kubectl(ctx, append([]string{"-n", namespace, "rollout", "restart"}, strings.Fields(names)...)...); err != nil {
			return err
		}
	}
	return nil
}

// kubectl runs kubectl as administrator inside the control-plane node.
func kubectl(ctx context.Context, args ...string) (string, error) {
	return command.Output(ctx, append([]string{"docker", "exec", controlPlane, "kubectl", "--kubeconfig", adminConf}, args...)...)
}

// Apply applies YAML to the management cluster as administrator.
func Apply(ctx context.Context, manifest string) error {
	_, err := command.Command{
		Args:  []string{"docker", "exec", "-i", controlPlane, "kubectl", "--kubeconfig", adminConf, "apply", "--server-side", "--force-conflicts", "-f", "-"},
		Stdin: strings.NewReader(manifest),
	}.Output(ctx)
	return err
}
