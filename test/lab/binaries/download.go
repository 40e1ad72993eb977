// SPDX-License-Identifier: Apache-2.0

package binaries

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
)

// Download is a Go module in the module cache: what `go mod download -json`
// says about it.
type Download struct {
	Version, Dir string
}

// Fetch makes sure that a module pinned in test/lab/modules/<pin> is in the
// module cache. The go.sum beside the pin is what makes its content trustworthy.
func Fetch(ctx context.Context, root, pin, path string) (Download, error) {
	out, err := command.Command{
		Args: []string{"go", "mod", "download", "-json", path},
		Dir:  filepath.Join(root, "test/lab/modules", pin),
		Env:  []string{"GOFLAGS=-mod=readonly", "GOWORK=off"},
	}.Output(ctx)
	if err != nil {
		return Download{}, err
	}
	var d Download
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		return Download{}, fmt.Errorf("reading the description of module %s: %w", path, err)
	}
	return d, nil
}
