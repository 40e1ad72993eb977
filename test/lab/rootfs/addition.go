// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

// ServerUser is the numeric user that databases run as, in their published images too.
const ServerUser = "999"

// additions are scripts that install what one image needs in a root. Users of
// databases come first, so that the packages find theirs and don't choose a number.
var additions = map[string]string{
	"postgres": user("postgres") + `
apt-get install -y -qq --no-install-recommends postgresql-15
rm -rf /var/lib/postgresql/* /etc/postgresql/*
`,
	"mariadb": user("mysql") + `
apt-get install -y -qq --no-install-recommends mariadb-server-core mariadb-client-core
`,
	"ipset": `
apt-get update -qq
apt-get install -y -qq --no-install-recommends ipset
`,
}

func user(name string) string {
	return fmt.Sprintf(`set -e
groupadd --system --gid %[2]s %[1]s
useradd --system --uid %[2]s --gid %[1]s --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin %[1]s
apt-get update -qq`, name, ServerUser)
}

// With returns archives whose tools have an addition, as in "postgres", made when missing.
func (a Archives) With(ctx context.Context, log *progress.Log, name string) (Archives, error) {
	script, known := additions[name]
	if !known {
		return a, fmt.Errorf("no addition %q: want one of %s", name, strings.Join(slices.Sorted(maps.Keys(additions)), ", "))
	}
	dir, err := cache.Dir()
	if err != nil {
		return a, err
	}
	base, folder := a.Tools, filepath.Join(dir, "rootfs-"+name+"-"+cache.Hash(a.Tools, script, trim))
	a.Tools = filepath.Join(folder, "tools.tar")
	if cache.Has(folder) {
		return a, nil
	}
	return a, log.Step("installing "+name+" in a root", func() error {
		return cache.Make(folder, func(temporary string) error {
			if err := os.MkdirAll(temporary, 0o755); err != nil {
				return err
			}
			return install(ctx, base, script, filepath.Join(temporary, "tools.tar"))
		})
	})
}

// install unpacks an archive, runs a script inside and archives the result.
func install(ctx context.Context, base, script, archive string) error {
	root := archive + ".root"
	defer os.RemoveAll(root)
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := command.Run(ctx, "tar", "--numeric-owner", "-C", root, "-xf", base); err != nil {
		return fmt.Errorf("unpacking %s: %w", base, err)
	}
	// What trim takes out again: the way to the mirror, and what keeps daemons from starting.
	resolver, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return err
	}
	for name, file := range map[string]struct {
		content []byte
		mode    os.FileMode
	}{"etc/resolv.conf": {resolver, 0o644}, "usr/sbin/policy-rc.d": {[]byte("#!/bin/sh\nexit 101\n"), 0o755}} {
		if err := os.WriteFile(filepath.Join(root, name), file.content, file.mode); err != nil {
			return err
		}
	}
	if err := chroot(ctx, root, script); err != nil {
		return err
	}
	return pack(ctx, root, trim, archive)
}
