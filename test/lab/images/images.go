// SPDX-License-Identifier: Apache-2.0

// Package images makes container images as docker-archive files, without an
// engine and without a registry, from the programs and file systems of the
// cache; or pulls the published ones where a registry answers.
package images

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/rootfs"
)

// patience is how long a registry may take to answer before it counts as out of reach.
const patience = 3 * time.Second

// Source provides an image by its name.
type Source interface {
	Image(ctx context.Context, spec spec) (v1.Image, error)
	// Key changes when the images change.
	Key() string
}

// Mode is where images come from.
type Mode string

// The modes, as the environment variable IMAGES names them.
const (
	ModePull  Mode = "pull"
	ModeBuild Mode = "build"
)

// Choose reads IMAGES: pull, build, or auto, which asks the registry.
func Choose(ctx context.Context) (Mode, error) {
	switch value := os.Getenv("IMAGES"); value {
	case string(ModePull), string(ModeBuild):
		return Mode(value), nil
	case "", "auto":
		if reachable(ctx, "https://registry.k8s.io/v2/") {
			return ModePull, nil
		}
		return ModeBuild, nil
	default:
		return "", fmt.Errorf("IMAGES=%s: want auto, pull or build", value)
	}
}

// Modules lists the modules of package binaries that the lab needs in this
// mode: nodes and tools are always built, images only when they aren't pulled.
func (m Mode) Modules() []string {
	if m == ModePull {
		return []string{"etcd", "kubernetes", "cluster-api", "containerd", "helm", "crictl", "kustomize", "cni", "runc"}
	}
	return nil
}

// Source provides images in this mode.
func (m Mode) Source(set binaries.Set, roots rootfs.Archives) Source {
	if m == ModePull {
		return Pull{Fallback: Build{Set: set, Roots: roots}}
	}
	return Build{Set: set, Roots: roots}
}

// reachable tells whether a registry answers at all.
func reachable(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK || response.StatusCode == http.StatusUnauthorized
}

// Build makes images from built programs.
type Build struct {
	Set   binaries.Set
	Roots rootfs.Archives
}

// Key holds the paths of the programs, which hold hashes of their sources.
func (b Build) Key() string {
	return cache.Hash("build", fmt.Sprint(map[string]string(b.Set)), b.Roots.Tools, fmt.Sprint(specs()))
}

// Image makes an image of the layers that its spec names.
func (b Build) Image(_ context.Context, spec spec) (v1.Image, error) {
	var layers []v1.Layer
	if spec.tools {
		base, err := Archived(b.Roots.Tools)
		if err != nil {
			return nil, err
		}
		layers = append(layers, base)
	}
	tree := Tree{}
	for path, program := range spec.programs {
		tree[path] = Entry{Source: b.Set.Path(program)}
	}
	for path, target := range spec.links {
		tree[path] = Entry{Link: target}
	}
	if len(tree) > 0 {
		files, err := Layer(tree)
		if err != nil {
			return nil, err
		}
		layers = append(layers, files)
	}
	return Assemble(v1.Config{Entrypoint: spec.entrypoint, User: spec.user, Env: []string{"PATH=" + searchPath}}, layers...)
}

// searchPath is the search path inside images.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Assemble makes an image of layers and a configuration.
func Assemble(config v1.Config, layers ...v1.Layer) (v1.Image, error) {
	image, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.Architecture, file.OS, file.Config = runtime.GOARCH, "linux", config
	return mutate.ConfigFile(image, file)
}

// Pull takes published images from their registries; those that are nobody
// else's are built.
type Pull struct {
	Fallback Build
}

// Key is the list of names: tags of published images don't move.
func (p Pull) Key() string {
	return cache.Hash("pull", strings.Join(Names(), " "), p.Fallback.Roots.Tools)
}

// Image pulls an image for this machine's architecture.
func (p Pull) Image(ctx context.Context, spec spec) (v1.Image, error) {
	if strings.HasPrefix(spec.name, "kamaji.lab/") {
		return p.Fallback.Image(ctx, spec)
	}
	reference, err := name.ParseReference(spec.name)
	if err != nil {
		return nil, err
	}
	image, err := remote.Image(reference, remote.WithContext(ctx),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	if err != nil {
		return nil, fmt.Errorf("pulling %s: %w", spec.name, err)
	}
	return image, nil
}

// Ensure returns the archive with all images of the lab, made when missing.
func Ensure(ctx context.Context, log *progress.Log, source Source) (string, error) {
	return assemble(ctx, log, source, source.Key(), specs())
}

// Extra returns an archive with the images of a set, made when missing. Its
// modules and server must be in the source.
func Extra(ctx context.Context, log *progress.Log, source Source, set Demanded) (string, error) {
	return assemble(ctx, log, source, cache.Hash(source.Key(), fmt.Sprint(set.specs)), set.specs)
}

func assemble(ctx context.Context, log *progress.Log, source Source, key string, list []spec) (string, error) {
	dir, err := cache.Dir()
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "images", key+".tar")
	if cache.Has(file) {
		return file, nil
	}
	return file, log.Step("assembling images", func() error {
		return cache.Make(file, func(temporary string) error {
			images := map[string]v1.Image{}
			for _, spec := range list {
				image, err := source.Image(ctx, spec)
				if err != nil {
					return fmt.Errorf("making %s: %w", spec.name, err)
				}
				images[spec.name] = image
			}
			return Write(temporary, images)
		})
	})
}

// Write writes images with their names into a docker-archive file.
func Write(file string, images map[string]v1.Image) error {
	tags := map[name.Tag]v1.Image{}
	for full, image := range images {
		tag, err := name.NewTag(full)
		if err != nil {
			return err
		}
		tags[tag] = image
	}
	return tarball.MultiWriteToFile(file, tags)
}
