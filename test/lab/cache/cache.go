// SPDX-License-Identifier: Apache-2.0

// Package cache places what the lab builds in the user's cache folder, under
// names that hold a hash of the inputs, so that nothing is built twice and
// nothing stale is used.
package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
)

// module is the path in the go.mod that marks the repository's root.
const module = "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji"

// keep is how long an entry stays that nothing uses.
const keep = 7 * 24 * time.Hour

// Dir is the lab's cache folder, ~/.cache/cluster-api-provider-kamaji unless
// XDG_CACHE_HOME says otherwise. It's made when missing.
func Dir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache folder: %w", err)
	}
	dir := filepath.Join(base, "cluster-api-provider-kamaji")
	return dir, os.MkdirAll(dir, 0o755)
}

// Root is the repository's folder: the current one or the nearest above it
// with the project's go.mod.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(content), "module "+module+"\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("not inside the project's repository")
		}
		dir = filepath.Dir(dir)
	}
}

// GoVersion is what `go env GOVERSION` says, as in "go1.26.0".
func GoVersion(ctx context.Context) (string, error) {
	return command.Output(ctx, "go", "env", "GOVERSION")
}

// Make makes an entry of the cache that doesn't exist yet: build fills a folder
// or file of a temporary name next to it, which is then renamed, so that an
// interrupted build leaves no entry.
func Make(path string, build func(temporary string) error) error {
	if Has(path) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	folder, err := os.MkdirTemp(filepath.Dir(path), ".partial-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	temporary := filepath.Join(folder, filepath.Base(path))
	if err := build(temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil && !Has(path) {
		return err // another process that made the same entry first is fine
	}
	return nil
}

// Has tells whether an entry exists, and notes that it's in use.
func Has(path string) bool {
	now := time.Now()
	return os.Chtimes(path, now, now) == nil
}

// Sweep deletes entries that nobody asked for in a week, among them what
// interrupted builds left. Folders named lab and engine hold state, not entries.
func Sweep() error {
	dir, err := Dir()
	if err != nil {
		return err
	}
	var problems []error
	for _, pattern := range []string{"bin/*", "images/*", "node/*", "repository/*", "rootfs-*", ".partial-*", "*/.partial-*"} {
		entries, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if info, err := os.Stat(entry); err == nil && time.Since(info.ModTime()) > keep {
				problems = append(problems, os.RemoveAll(entry))
			}
		}
	}
	return errors.Join(problems...)
}

// Hash is the first 12 hexadecimal digits of the SHA-256 over all parts.
func Hash(parts ...string) string {
	sum := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(sum, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}

// HashFolder hashes names and contents of all files below a folder but tests.
func HashFolder(folder string) (string, error) {
	var parts []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(path, "_test.go") {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		parts = append(parts, name, string(content))
		return err
	})
	return Hash(parts...), err
}
