// SPDX-License-Identifier: Apache-2.0

// Package engine sees to a running container engine: Docker, as installed by
// the user, or installed from Debian and started by the lab.
package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/debian"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

const (
	// startup is how long dockerd may take to answer; it takes two seconds on an idle machine.
	startup = time.Minute
	// capSysResource is the number of CAP_SYS_RESOURCE in linux/capability.h.
	capSysResource = 24
	// runtime is the name dockerd knows the runc wrapper by.
	runtime = "kamaji-lab"
)

// Ensure leaves a running engine alone, and otherwise installs Docker when
// it's missing (root and apt are needed) and starts its daemon in the background.
func Ensure(ctx context.Context, log *progress.Log) error {
	if Running(ctx) {
		return nil
	}
	if os.Getuid() != 0 {
		return errors.New("no container engine answers to `docker version`, and starting one needs root")
	}
	if err := debian.Need(ctx, log, map[string]string{"dockerd": "docker.io", "docker": "docker.io", "iptables": "iptables"}); err != nil {
		return err
	}
	var arguments []string
	if !resourceful() {
		set, err := binaries.Build(ctx, log, "runc")
		if err != nil {
			return err
		}
		arguments = append(arguments, "--add-runtime", runtime+"="+set.Path("runc"), "--default-runtime", runtime)
	}
	return log.Step("starting dockerd", func() error { return start(ctx, arguments) })
}

// Running tells whether an engine answers.
func Running(ctx context.Context) bool {
	return command.Run(ctx, "docker", "version", "--format", "{{.Server.Version}}") == nil
}

// CgroupV1 tells whether the engine puts containers into version 1 control groups.
func CgroupV1(ctx context.Context) (bool, error) {
	version, err := command.Output(ctx, "docker", "info", "--format", "{{.CgroupVersion}}")
	return version == "1", err
}

// Stop ends the daemon that Ensure started; an engine of somebody else stays.
func Stop() error {
	dir, err := folder()
	if err != nil {
		return err
	}
	content, err := os.ReadFile(filepath.Join(dir, "dockerd.pid"))
	if err != nil {
		return nil // never started, or ended by itself
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return fmt.Errorf("reading dockerd.pid: %w", err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stopping dockerd: %w", err)
	}
	return nil
}

// start runs dockerd in a session of its own, so that it outlives the lab
// program, and waits until it answers.
func start(ctx context.Context, arguments []string) error {
	dir, err := folder()
	if err != nil {
		return err
	}
	output, err := os.OpenFile(filepath.Join(dir, "dockerd.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer output.Close()
	daemon := exec.Command("dockerd", append([]string{"--pidfile", filepath.Join(dir, "dockerd.pid")}, arguments...)...)
	daemon.Stdout, daemon.Stderr = output, output
	daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := daemon.Start(); err != nil {
		return fmt.Errorf("starting dockerd: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, startup)
	defer cancel()
	for {
		if Running(ctx) {
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("dockerd ended (%v), see %s", err, output.Name())
		case <-ctx.Done():
			return fmt.Errorf("dockerd doesn't answer, see %s: %w", output.Name(), ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// folder holds the log and the process number of the daemon.
func folder() (string, error) {
	dir, err := cache.Dir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "engine")
	return dir, os.MkdirAll(dir, 0o755)
}

// resourceful tells whether the bounding set of this process holds
// CAP_SYS_RESOURCE, without which runc can't make privileged containers.
func resourceful() bool {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, "CapBnd:"); found {
			set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return err != nil || set&(1<<capSysResource) != 0
		}
	}
	return true
}
