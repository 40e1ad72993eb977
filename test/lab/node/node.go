// SPDX-License-Identifier: Apache-2.0

// Package node makes the image of the management cluster's nodes, which is
// also the image of the lab's hosts: a Debian with systemd, sshd, containerd,
// the kubelet, and every container image of the lab inside.
package node

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/images"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/rootfs"
)

// Repository is the image name in the container engine; the tag is a hash of what is inside.
const Repository = "kamaji-lab/node"

// basePrefix begins the tags of images that have no container images inside yet.
const basePrefix = "base-"

// entrypoint is what kind wants of a node image.
const entrypoint = `ENTRYPOINT [ "/usr/local/bin/entrypoint", "/sbin/init" ]`

// Ensure returns the name of the node image in the container engine. It's
// loaded from the cache, or built with the given images inside, when missing.
func Ensure(ctx context.Context, log *progress.Log, set binaries.Set, roots rootfs.Archives, archive string) (string, error) {
	dir, err := cache.Dir()
	if err != nil {
		return "", err
	}
	tree, err := files(ctx, set)
	if err != nil {
		return "", err
	}
	top, err := images.Layer(tree)
	if err != nil {
		return "", err
	}
	digest, err := top.Digest()
	if err != nil {
		return "", err
	}
	hash := cache.Hash(digest.String(), roots.System, filepath.Base(archive), entrypoint)
	image := Repository + ":" + hash
	if command.Run(ctx, "docker", "image", "inspect", image) == nil {
		return image, nil
	}
	saved := filepath.Join(dir, "node", hash+".tar")
	if cache.Has(saved) {
		return image, log.Step("loading the node image", func() error {
			return command.Run(ctx, "docker", "load", "-q", "-i", saved)
		})
	}
	if err := Remove(ctx); err != nil {
		return "", err
	}
	err = log.Step("building the node image", func() error {
		base, err := load(ctx, roots, top, hash)
		if err != nil {
			return err
		}
		return preload(ctx, base, archive, image)
	})
	if err != nil {
		return "", err
	}
	return image, log.Step("saving the node image", func() error {
		return cache.Make(saved, func(temporary string) error {
			return command.Run(ctx, "docker", "save", "-o", temporary, image)
		})
	})
}

// Remove deletes the node images that no container runs from.
func Remove(ctx context.Context) error {
	output, err := command.Output(ctx, "docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", Repository)
	if err != nil {
		return err
	}
	names := strings.Fields(output)
	// Images without container images are parents of others, and go last.
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Compare(strings.Index(a, basePrefix), strings.Index(b, basePrefix))
	})
	for _, name := range names {
		// The engine refuses what is in use, which is why nothing is forced.
		_ = command.Run(ctx, "docker", "image", "rm", name)
	}
	return nil
}

// load puts the image without container images into the engine.
func load(ctx context.Context, roots rootfs.Archives, top v1.Layer, hash string) (string, error) {
	system, err := images.Archived(roots.System)
	if err != nil {
		return "", err
	}
	image, err := images.Assemble(v1.Config{
		Env:        []string{"container=docker", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		StopSignal: "SIGRTMIN+3", // SIGTERM makes systemd start itself again
		Entrypoint: []string{"/usr/local/bin/entrypoint", "/sbin/init"},
	}, system, top)
	if err != nil {
		return "", err
	}
	file, err := os.CreateTemp("", "kamaji-lab-node-*.tar")
	if err != nil {
		return "", err
	}
	file.Close()
	defer os.Remove(file.Name())
	name := Repository + ":" + basePrefix + hash
	if err := images.Write(file.Name(), map[string]v1.Image{name: image}); err != nil {
		return "", err
	}
	return name, command.Run(ctx, "docker", "load", "-q", "-i", file.Name())
}

// preload imports the archive's images into the image's own containerd and
// commits the result. They are unpacked when first used: overlayfs can't be
// stacked on the overlayfs of a container that has no volume.
func preload(ctx context.Context, base, archive, image string) error {
	container, err := command.Output(ctx, "docker", "run", "-d", "--security-opt", "seccomp=unconfined",
		"--entrypoint", "sleep", base, "infinity")
	if err != nil {
		return err
	}
	defer func() {
		_ = command.Run(context.WithoutCancel(ctx), "docker", "rm", "-f", "-v", container)
	}()
	if err := command.Run(ctx, "docker", "exec", "-d", container, "containerd"); err != nil {
		return err
	}
	if err := answering(ctx, container); err != nil {
		return err
	}
	if err := ImportFile(ctx, container, archive); err != nil {
		return err
	}
	if err := command.Run(ctx, "docker", "exec", container, "sh", "-c",
		"pkill -x containerd && while pgrep -x containerd >/dev/null; do sleep 0.1; done"); err != nil {
		return err
	}
	return command.Run(ctx, "docker", "commit", "--change", entrypoint, container, image)
}

// Import loads a docker-archive into the containerd of a running container.
func Import(ctx context.Context, container string, archive *os.File) error {
	_, err := command.Command{
		Args: []string{"docker", "exec", "-i", container, "ctr", "--namespace", "k8s.io", "images", "import",
			"--all-platforms", "--no-unpack", "--digests", "-"},
		Stdin: archive,
	}.Output(ctx)
	return err
}

// ImportFile loads the docker-archive of that path.
func ImportFile(ctx context.Context, container, archive string) error {
	content, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer content.Close()
	if err := Import(ctx, container, content); err != nil {
		return fmt.Errorf("loading images into %s: %w", container, err)
	}
	return nil
}

// answering waits for the containerd of a container.
func answering(ctx context.Context, container string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := command.Run(ctx, "docker", "exec", container, "ctr", "version")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("containerd doesn't start: %w", err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
