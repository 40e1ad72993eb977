// SPDX-License-Identifier: Apache-2.0

// Package binaries builds the programs of the lab from Go modules, whose
// versions and checksums are pinned in test/lab/modules, into the cache.
package binaries

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/debian"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

// parallel is how many modules are built at once: the Go compiler uses all
// cores by itself, a second build fills the gaps while the first one links.
const parallel = 2

// linker drops symbol tables and debug information.
const linker = "-s -w"

// Set tells where built programs are.
type Set map[string]string

// Path is the file of a program, as in "etcd" or "kubelet". It panics for a
// name that no module makes, or one that wasn't built.
func (s Set) Path(program string) string {
	if slices.Contains(Kubernetes, program) {
		program = "kubernetes"
	}
	path, built := s[program]
	if !built {
		panic("no program " + program)
	}
	return path
}

// Build makes the programs of the named modules, and returns where they are;
// when none is named those of all modules but the ones on demand. Modules
// already in the cache aren't built.
func Build(ctx context.Context, log *progress.Log, names ...string) (Set, error) {
	root, err := cache.Root()
	if err != nil {
		return nil, err
	}
	dir, err := cache.Dir()
	if err != nil {
		return nil, err
	}
	version, err := cache.GoVersion(ctx)
	if err != nil {
		return nil, err
	}
	var (
		set    = Set{}
		mu     sync.Mutex
		group  sync.WaitGroup
		failed []error
		slots  = make(chan struct{}, parallel)
	)
	wanted := modules
	if len(names) > 0 {
		wanted = slices.DeleteFunc(append(onDemand(), modules...), func(m module) bool { return !slices.Contains(names, m.name) })
	}
	for _, m := range wanted {
		group.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; group.Done() }()
			folder, err := build(ctx, log, m, filepath.Join(root, "test/lab/modules", m.source()), filepath.Join(dir, "bin"), version)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, err)
				return
			}
			for program := range m.programs {
				set[program] = filepath.Join(folder, program)
			}
		}()
	}
	group.Wait()
	return set, errors.Join(failed...)
}

// build makes one module's programs and returns their folder.
func build(ctx context.Context, log *progress.Log, m module, source, bin, version string) (string, error) {
	content, err := cache.HashFolder(source)
	if err != nil {
		return "", fmt.Errorf("hashing %s: %w", source, err)
	}
	hash := cache.Hash(append([]string{content, version, runtime.GOARCH, linker, m.flags, fmt.Sprint(m.programs)}, m.options()...)...)
	target := filepath.Join(bin, m.name+"-"+hash)
	if cache.Has(target) {
		return target, nil
	}
	cgo := "CGO_ENABLED=0"
	if m.cgo {
		cgo = "CGO_ENABLED=1"
		if err := debian.Need(ctx, log, map[string]string{"gcc": "gcc libc6-dev"}); err != nil {
			return "", err
		}
	}
	return target, log.Step("building "+m.name, func() error {
		return cache.Make(target, func(temporary string) error {
			for program, pkg := range m.programs {
				arguments := append([]string{"go", "build", "-trimpath", "-ldflags", linker + m.flags}, m.options()...)
				_, err := command.Command{
					Args: append(arguments, "-o", filepath.Join(temporary, program), pkg),
					Dir:  source,
					Env:  []string{cgo, "GOFLAGS=-mod=readonly -buildvcs=false", "GOWORK=off"},
				}.Output(ctx)
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// packages of the distribution have the programs that tests run: databases, and what reads the units and sets the routes of a gateway.
var packages = map[string]string{"systemd-analyze": "systemd", "ip": "iproute2", "pg_ctlcluster": "postgresql", "mariadb-install-db": "mariadb-server-core", "my_print_defaults": "mariadb-client-core"}

// Assets makes the folder that tests with a real API server want in
// KUBEBUILDER_ASSETS, building kube-apiserver, etcd and kine when missing, and
// returns its path. The path doesn't depend on versions; its links do. It also
// installs the packages whose programs tests run, if it may.
func Assets(ctx context.Context, log *progress.Log) (string, error) {
	if os.Geteuid() == 0 {
		if err := debian.Need(ctx, log, packages); err != nil {
			return "", err
		}
	}
	set, err := Build(ctx, log, "etcd", "kubernetes", "kine")
	if err != nil {
		return "", err
	}
	dir, err := cache.Dir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "assets")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, program := range []string{"kube-apiserver", "kubectl", "etcd", "kine"} {
		if err := link(set.Path(program), filepath.Join(dir, program)); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// link makes a symbolic link, replacing one that points elsewhere.
func link(target, path string) error {
	if current, err := os.Readlink(path); err == nil && current == target {
		return nil
	}
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Symlink(target, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
