// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

// ProductVersion is the tag of the project's own images in the lab.
const ProductVersion = "v0.1.0"

// Products are the project's programs, each with an image of its own.
var Products = []string{"controlplane-manager", "infrastructure-manager", "kamaji-gateway"}

// Product builds the project's programs from the working tree and returns an
// archive with their images. Go's own build cache makes this quick when little
// changed, so the archive is always written anew.
func Product(ctx context.Context, log *progress.Log) (string, error) {
	root, err := cache.Root()
	if err != nil {
		return "", err
	}
	dir, err := cache.Dir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "product")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	commit, err := command.Command{Args: []string{"git", "rev-parse", "HEAD"}, Dir: root}.Output(ctx)
	if err != nil {
		commit = "unknown" // an unpacked archive of the sources
	}
	images := map[string]v1.Image{}
	for _, product := range Products {
		err := log.Step("building "+product, func() error {
			image, err := build(ctx, root, product, commit, filepath.Join(dir, product))
			images["ghcr.io/cluster-api-provider-kamaji/"+product+":"+ProductVersion] = image
			return err
		})
		if err != nil {
			return "", err
		}
	}
	archive := filepath.Join(dir, "images.tar")
	return archive, Write(archive, images)
}

// build compiles one program and puts it into an image, as /<name>.
func build(ctx context.Context, root, product, commit, file string) (v1.Image, error) {
	const version = "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/version."
	stamp := fmt.Sprintf("-s -w -X %sVersion=%s -X %sCommit=%s", version, ProductVersion, version, commit)
	_, err := command.Command{
		Args: []string{"go", "build", "-trimpath", "-ldflags", stamp, "-o", file, "./cmd/" + product},
		Dir:  root,
		Env:  []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + runtime.GOARCH},
	}.Output(ctx)
	if err != nil {
		return nil, err
	}
	layer, err := Layer(Tree{"/" + product: {Source: file}})
	if err != nil {
		return nil, fmt.Errorf("packing %s: %w", product, err)
	}
	return Assemble(v1.Config{Entrypoint: []string{"/" + product}, User: nonroot, Env: []string{"PATH=" + searchPath}}, layer)
}
