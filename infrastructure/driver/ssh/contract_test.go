// SPDX-License-Identifier: Apache-2.0

package ssh_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/bootstrap"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver/drivertest"
	rackssh "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver/ssh"
)

func TestContract(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Host { return newSandbox(t) })
}

// sandbox is this machine seen through a copy-on-write root in its own namespaces, behind an SSH server: the driver's
// scripts run for real, with stand-ins for systemd, kubeadm and sudo only.
type sandbox struct {
	*server
	pid  int
	user string
}

func newSandbox(t testing.TB) *sandbox {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to make namespaces")
	}
	stubs, err := filepath.Abs("testdata/sandbox")
	if err != nil {
		t.Fatal(err)
	}
	init := exec.Command("unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child",
		"--propagation", "private", "sh", filepath.Join(stubs, "init"), t.TempDir(), stubs)
	init.Stderr = os.Stderr
	init.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := init.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := init.Start(); err != nil {
		t.Skipf("needs unshare: %v", err)
	}
	t.Cleanup(func() {
		_ = init.Process.Kill()
		_ = init.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Skipf("this machine can't make a sandbox: %q, %v", line, err)
	}
	children, err := os.ReadFile("/proc/" + strconv.Itoa(init.Process.Pid) + "/task/" + strconv.Itoa(init.Process.Pid) + "/children")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(children)))
	if err != nil {
		t.Fatal(err)
	}
	s := &sandbox{pid: pid, user: "root"}
	s.server = serve(t, s.enter)
	return s
}

// enter makes a process in the sandbox, as sshd would: the user's shell with the command.
func (s *sandbox) enter(text string) *exec.Cmd {
	return exec.Command("nsenter", "--target", strconv.Itoa(s.pid), "--mount", "--net", "--pid", "--uts", "--ipc",
		"--root", "--wd", "/bin/sh", "-c", `[ -e /.sandbox ] && exec /bin/sh -c "$1"`, "sh", text)
}

// inside runs a command and returns what it prints.
func (s *sandbox) inside(t testing.TB, text string) string {
	t.Helper()
	out, err := s.enter(text).Output()
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return string(out)
}

func (s *sandbox) Dial(ctx context.Context, target driver.Target) (driver.Driver, error) {
	return rackssh.Dial(ctx, target)
}

func (s *sandbox) Target() driver.Target {
	return driver.Target{
		Address: s.address.IP.String(), Port: int32(s.address.Port), User: s.user,
		PrivateKey: s.client.private, HostKeys: []string{s.host.authorized},
	}
}

func (s *sandbox) WrongHostKey() string    { return s.client.authorized }
func (s *sandbox) WrongPrivateKey() []byte { return s.host.private }

func (s *sandbox) Payload(b drivertest.Behaviour) bootstrap.Payload {
	behaviour := map[drivertest.Behaviour]string{drivertest.FailsToJoin: "fail", drivertest.HangsIn: "hang"}[b]
	before := []string{"echo 192.0.2.1 tenant.example >>/etc/hosts"}
	if b == drivertest.HangsBefore {
		before = append(before, "sleep 100000")
	}
	script := drivertest.Commands(before...)
	return bootstrap.Seal([]bootstrap.Action{
		{File: &bootstrap.File{Path: "/etc/behaviour", Owner: "root:root", Permissions: "0644", Content: []byte(behaviour + "\n")}},
		{File: &bootstrap.File{Path: bootstrap.JoinConfigPath, Owner: "root:root", Permissions: "0640", Secret: true,
			Content: []byte("token: " + drivertest.Token + "\n" + drivertest.PEM + "\n")}},
		{File: &bootstrap.File{Path: "/run/cluster-api/placeholder", Owner: "root:root", Permissions: "0640"}},
		{Script: &script},
	}, bootstrap.Sentinel)
}

func (s *sandbox) Reboot(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("testdata/sandbox/reboot")
	if err != nil {
		t.Fatal(err)
	}
	_ = s.enter(string(text)).Run() // It kills everything, itself not excepted on some kernels.
	s.inside(t, "[ -d /run/systemd/system ]")
}

func (s *sandbox) Joins(t *testing.T) int {
	t.Helper()
	return strings.Count(s.inside(t, "cat /var/joins 2>/dev/null || :"), "join\n")
}
