// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/images"
)

// isolate is a unit that takes away the way to the outside, at every boot. Lab
// hosts enable it: like machines of a rack, they reach nothing but their network.
const isolate = `[Unit]
Description=Remove the default route
After=network.target
Before=kubelet.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=-/sbin/ip route del default

[Install]
WantedBy=multi-user.target
`

// files is everything the node image holds on top of Debian: kind's own
// static files with the lab's programs and settings.
func files(ctx context.Context, set binaries.Set) (images.Tree, error) {
	tree := images.Tree{
		"/kind/version":                              {Content: binaries.KubernetesVersion},
		"/etc/kubernetes/manifests":                  {},
		"/etc/systemd/system/isolate.service":        {Content: isolate},
		"/etc/systemd/system/systemd-binfmt.service": {Link: "/dev/null"},
		// The wrapper comes before /usr/sbin/runc in the path of containerd's shim.
		"/usr/local/sbin/runc": {Source: set.Path("runc")},
		"/usr/bin/kubernetes":  {Source: set.Path("kubernetes")},
	}
	for _, unit := range []string{"containerd.service", "kubelet.service", "undo-mount-hacks.service"} {
		tree["/etc/systemd/system/multi-user.target.wants/"+unit] = images.Entry{Link: "/etc/systemd/system/" + unit}
	}
	for _, name := range []string{"kubelet", "kubeadm", "kubectl"} {
		tree["/usr/bin/"+name] = images.Entry{Link: "kubernetes"}
	}
	for _, program := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "crictl"} {
		tree["/usr/local/bin/"+program] = images.Entry{Source: set.Path(program)}
	}
	for _, plugin := range []string{"ptp", "bridge", "loopback", "host-local", "portmap", "flannel"} {
		tree["/opt/cni/bin/"+plugin] = images.Entry{Source: set.Path(plugin)}
	}
	if err := static(ctx, tree); err != nil {
		return nil, err
	}
	spec, err := runtimeSpec(ctx, set.Path("ctr"))
	tree["/etc/containerd/cri-base.json"] = images.Entry{Content: spec}
	return tree, err
}

// static adds the files that kind's own node images hold, from its module.
func static(ctx context.Context, tree images.Tree) error {
	module, err := command.Output(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kind")
	if err != nil {
		return err
	}
	if module == "" { // known but not downloaded yet
		if err := command.Run(ctx, "go", "mod", "download", "sigs.k8s.io/kind"); err != nil {
			return err
		}
		if module, err = command.Output(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kind"); err != nil {
			return err
		}
	}
	base := filepath.Join(module, "images/base/files")
	return filepath.WalkDir(base, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, base)
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		adapted, err := adapt(name, string(content))
		mode := int64(0o644)
		if strings.HasPrefix(name, "/usr/local/bin/") || strings.HasPrefix(name, "/kind/bin/") {
			mode = 0o755
		}
		tree[name] = images.Entry{Content: adapted, Mode: mode}
		return err
	})
}

// adapt changes kind's settings to what works on machines that may not raise
// limits, and to the pause image the lab has.
func adapt(name, content string) (string, error) {
	replacements := map[string][]string{
		"/etc/containerd/config.toml": {
			"registry.k8s.io/pause:3.10\"", "registry.k8s.io/pause:3.10.2\"",
			"restrict_oom_score_adj = false", "restrict_oom_score_adj = true",
		},
		"/etc/systemd/system/containerd.service": {"LimitNOFILE=infinity\n", "", "OOMScoreAdjust=-999\n", ""},
	}[name]
	for i := 0; i < len(replacements); i += 2 {
		if !strings.Contains(content, replacements[i]) {
			return "", fmt.Errorf("kind's %s has no %q any more", name, replacements[i])
		}
		content = strings.ReplaceAll(content, replacements[i], replacements[i+1])
	}
	return content, nil
}

// runtimeSpec is the default container configuration with kind's hook that
// hides the hardware's identity, and without limits.
func runtimeSpec(ctx context.Context, ctr string) (string, error) {
	output, err := command.Output(ctx, ctr, "oci", "spec")
	if err != nil {
		return "", err
	}
	spec := map[string]any{}
	if err := json.Unmarshal([]byte(output), &spec); err != nil {
		return "", fmt.Errorf("reading the default container configuration: %w", err)
	}
	spec["hooks"] = map[string]any{"createContainer": []any{map[string]any{"path": "/kind/bin/mount-product-files.sh"}}}
	if process, ok := spec["process"].(map[string]any); ok {
		delete(process, "rlimits")
	}
	content, err := json.Marshal(spec)
	return string(content), err
}
