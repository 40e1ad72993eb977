// SPDX-License-Identifier: Apache-2.0

// Package rootfs makes the Debian file systems below the lab's images, as tar
// archives in the cache.
package rootfs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/debian"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

// suite is Debian 12: the systemd of later releases refuses version 1 control groups.
const suite = "bookworm"

// tools go into container images that need more than one program: kube-proxy,
// flannel and the toolbox.
var tools = []string{"ca-certificates", "conntrack", "curl", "ethtool", "iproute2", "iptables", "iputils-ping", "kmod", "nftables", "procps"}

// system makes a machine of it: an init system, a container runtime's needs, sshd.
var system = []string{
	"dbus", "e2fsprogs", "iputils-arping", "jq", "libseccomp2", "mount", "openssh-server", "runc", "socat", "sudo",
	"systemd", "systemd-sysv", "util-linux",
}

// trim takes out of a root what no container needs, and what must differ
// between machines.
const trim = `set -e
apt-get clean
rm -rf /var/lib/apt/lists/* /var/log/*.log /usr/share/doc/* /usr/share/man/* /usr/share/locale/* /tmp/* /usr/sbin/policy-rc.d
rm -f /etc/ssh/ssh_host_* /etc/resolv.conf /etc/hostname
: > /etc/machine-id
`

// quiet leaves only the units a machine in a container can run; what the lab
// wants is enabled later by links in the node image.
const quiet = `
find /lib/systemd/system/sysinit.target.wants/ -name systemd-tmpfiles-setup.service -delete
rm -f /lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/* /lib/systemd/system/local-fs.target.wants/*
rm -f /lib/systemd/system/sockets.target.wants/*udev* /lib/systemd/system/sockets.target.wants/*initctl*
rm -f /lib/systemd/system/basic.target.wants/*
echo ReadKMsg=no >> /etc/systemd/journald.conf
`

// Archives are the file systems.
type Archives struct {
	Tools  string // tar of a minimal Debian with network tools
	System string // tar of the same with systemd and sshd
}

// Build makes the archives of tools and system, or finds them in the cache.
func Build(ctx context.Context, log *progress.Log) (Archives, error) {
	dir, err := cache.Dir()
	if err != nil {
		return Archives{}, err
	}
	hash := cache.Hash(suite, runtime.GOARCH, strings.Join(tools, " "), strings.Join(system, " "), trim, quiet)
	dir = filepath.Join(dir, "rootfs-"+hash)
	archives := Archives{Tools: filepath.Join(dir, "tools.tar"), System: filepath.Join(dir, "system.tar")}
	if cache.Has(dir) {
		return archives, nil
	}
	if err := debian.Need(ctx, log, map[string]string{"debootstrap": "debootstrap"}); err != nil {
		return archives, err
	}
	return archives, log.Step("bootstrapping Debian "+suite, func() error {
		return cache.Make(dir, func(temporary string) error { return bootstrap(ctx, temporary) })
	})
}

// bootstrap writes both archives into a folder.
func bootstrap(ctx context.Context, dir string) error {
	root := dir + ".root"
	defer os.RemoveAll(root)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := command.Run(ctx, "debootstrap", "--variant=minbase", "--include="+strings.Join(tools, ","), suite, root); err != nil {
		return err
	}
	// No package may start its daemon while it's being installed into the root.
	if err := os.WriteFile(filepath.Join(root, "usr/sbin/policy-rc.d"), []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
		return err
	}
	base := root + ".tools"
	defer os.RemoveAll(base)
	if err := command.Run(ctx, "cp", "-a", root, base); err != nil {
		return err
	}
	if err := pack(ctx, base, trim, filepath.Join(dir, "tools.tar")); err != nil {
		return err
	}
	install := "apt-get install -y -qq --no-install-recommends " + strings.Join(system, " ")
	if err := chroot(ctx, root, install); err != nil {
		return err
	}
	return pack(ctx, root, trim+quiet, filepath.Join(dir, "system.tar"))
}

// pack runs a clean-up script inside a root and archives the root.
func pack(ctx context.Context, root, script, archive string) error {
	if err := chroot(ctx, root, script); err != nil {
		return err
	}
	if err := command.Run(ctx, "tar", "--numeric-owner", "--sort=name", "-C", root, "-cf", archive, "."); err != nil {
		return fmt.Errorf("archiving %s: %w", root, err)
	}
	return nil
}

// chroot runs a shell script inside a root.
func chroot(ctx context.Context, root, script string) error {
	_, err := command.Command{
		Args: []string{"chroot", root, "/bin/sh", "-ec", script},
		Env:  []string{"DEBIAN_FRONTEND=noninteractive", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=/tmp"},
	}.Output(ctx)
	return err
}
