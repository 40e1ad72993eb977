// SPDX-License-Identifier: Apache-2.0

package ssh_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/bootstrap"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver/drivertest"
	rackssh "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver/ssh"
)

func dial(t *testing.T, s *sandbox) driver.Driver {
	t.Helper()
	d, err := rackssh.Dial(t.Context(), s.Target())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// finish observes until the operation is over.
func finish(t *testing.T, d driver.Driver, id string) driver.Progress {
	t.Helper()
	for {
		p, err := d.Observe(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if p.Phase != driver.Running {
			return p
		}
	}
}

func deliver(t *testing.T, d driver.Driver, id string, actions ...bootstrap.Action) driver.Progress {
	t.Helper()
	if err := d.Deliver(t.Context(), driver.Operation{ID: id, Payload: bootstrap.Seal(actions, bootstrap.Sentinel)}); err != nil {
		t.Fatal(err)
	}
	return finish(t, d, id)
}

func reset(t *testing.T, d driver.Driver, id string) {
	t.Helper()
	if err := d.Reset(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if p := finish(t, d, id); p.Phase != driver.Succeeded {
		t.Fatalf("reset is %s: %s\n%s", p.Phase, p.Reason, p.Tail)
	}
}

func script(commands ...string) bootstrap.Action {
	return bootstrap.Action{Script: &bootstrap.Script{Name: "runcmd", Commands: commands, Join: -1}}
}

func file(path, content string) bootstrap.Action {
	return bootstrap.Action{File: &bootstrap.File{Path: path, Owner: "root:root", Permissions: "0644", Content: []byte(content)}}
}

const joined = "echo success >" + bootstrap.Sentinel

// A reset takes back everything outside Kubernetes' directories too.
func TestResetUndoes(t *testing.T) {
	s := newSandbox(t)
	d := dial(t, s)
	state := `for f in /etc/hosts /etc/fstab /etc/kept /etc/passwd /etc/group; do echo "$f $(stat -c '%a %U' $f) $(md5sum <$f)"; done
		ls -d /etc/new /home/ops /etc/sudoers.d/90-rack-ops /srv/data/x 2>/dev/null; grep -c ' /srv/data ' /proc/mounts; :`
	s.inside(t, "echo before >/etc/kept; chmod 0640 /etc/kept; mkdir -p /run/cluster-api; touch /etc/fstab; cp /etc/group /etc/group.old")
	before := s.inside(t, state)

	kept := file("/etc/kept", "after\n")
	kept.File.Append = true
	p := deliver(t, d, "claim-a",
		kept, file("/etc/new", "new"), file("/run/cluster-api/placeholder", ""),
		bootstrap.Action{Mount: &bootstrap.Mount{Device: "tmpfs", Point: "/srv/data", Type: "tmpfs", Options: "defaults,nofail", Dump: "0", Pass: "0"}},
		bootstrap.Action{User: &bootstrap.User{Name: "ops", Groups: []string{"adm"}, Sudo: "ALL=(ALL) NOPASSWD:ALL", LockPassword: true,
			Shell: "/bin/sh", SSHAuthorizedKeys: []string{"ssh-ed25519 AAAA"}}},
		script("echo 192.0.2.1 tenant.example >>/etc/hosts", "echo x >/srv/data/x", joined))
	if p.Phase != driver.Succeeded {
		t.Fatalf("bootstrap is %s: %s\n%s", p.Phase, p.Reason, p.Tail)
	}
	got := s.inside(t, `cat /etc/kept; tail -n 1 /etc/hosts; cat /home/ops/.ssh/authorized_keys; stat -c %a /home/ops/.ssh/authorized_keys
		cat /etc/sudoers.d/90-rack-ops; grep -c ' /srv/data ' /proc/mounts; id -nG ops`)
	want := "before\nafter\n192.0.2.1 tenant.example\nssh-ed25519 AAAA\n600\nops ALL=(ALL) NOPASSWD:ALL\n1\nops adm\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after the bootstrap (-want +got):\n%s", diff)
	}

	reset(t, d, "reset-a")
	if diff := cmp.Diff(before, s.inside(t, state)); diff != "" {
		t.Errorf("after the reset (-before +after):\n%s", diff)
	}
	if left := s.inside(t, "ls /var/lib/rack/ops; ls /run/rack/ops"); left != "reset-a\n" {
		t.Errorf("traces of operations: %q", left)
	}
}

// Whatever the outcome, no file of ours holds a secret afterwards, and no process shows one.
func TestSecretsAreGone(t *testing.T) {
	for _, b := range []drivertest.Behaviour{drivertest.Joins, drivertest.FailsToJoin} {
		s := newSandbox(t)
		d := dial(t, s)
		if err := d.Deliver(t.Context(), driver.Operation{ID: "claim-a", Payload: s.Payload(b)}); err != nil {
			t.Fatal(err)
		}
		finish(t, d, "claim-a")
		if found := s.inside(t, "grep -rlE 'abcdef\\.0123456789abcdef|c2VjcmV0' /run /var/lib/rack || :"); found != "" {
			t.Errorf("%s: secrets are left in %s", b, found)
		}
	}
}

// The commands never vary with what is delivered.
func TestCommandsAreConstant(t *testing.T) {
	s := newSandbox(t)
	d := dial(t, s)
	deliver(t, d, "claim-a", file("/etc/a;reboot '$(reboot)'", "x"), script("touch /run/cluster-api", joined))
	reset(t, d, "reset-a")
	if _, err := d.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range s.received() {
		if c != s.received()[0] {
			t.Errorf("command %q differs from the first", c)
		}
	}
}

func TestTimeLimit(t *testing.T) {
	s := newSandbox(t)
	d := dial(t, s)
	op := driver.Operation{ID: "claim-a", Payload: s.Payload(drivertest.HangsIn), Timeout: time.Second}
	if err := d.Deliver(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	p := finish(t, d, "claim-a")
	if p.Phase != driver.Failed || p.ExitCode != 124 || !strings.Contains(p.Reason, "time limit") || !p.JoinStarted {
		t.Errorf("progress is %+v", p)
	}
	reset(t, d, "reset-a")
	if left := s.inside(t, "pgrep -f '[s]leep 100000' || :"); left != "" {
		t.Errorf("the hanging process is still there: %s", left)
	}
}

// What fails before the join names the step and the thing.
func TestFailingAction(t *testing.T) {
	s := newSandbox(t)
	d := dial(t, s)
	bad := file("/etc/x", "x")
	bad.File.Owner = "nobody-here:nogroup"
	p := deliver(t, d, "claim-a", bad, script(joined))
	if p.Phase != driver.Failed || p.Step != "write_files" || !strings.Contains(p.Reason, "/etc/x") || p.JoinStarted {
		t.Errorf("progress is %+v", p)
	}
	reset(t, d, "reset-a")
}

func TestMountedVolumeIsNeverEmptied(t *testing.T) {
	s := newSandbox(t)
	d := dial(t, s)
	s.inside(t, `mkdir -p /var/lib/kubelet/pods/p && mount -t tmpfs tmpfs /var/lib/kubelet/pods/p && echo precious >/var/lib/kubelet/pods/p/data
		(cd /var/lib/kubelet/pods/p && exec sleep 100000) >/dev/null 2>&1 &`)
	if err := d.Reset(t.Context(), "reset-a"); err != nil {
		t.Fatal(err)
	}
	p := finish(t, d, "reset-a")
	if p.Phase != driver.Failed || !strings.Contains(p.Reason, "1 mounts below /var/lib/kubelet") {
		t.Errorf("progress is %+v", p)
	}
	if data := s.inside(t, "cat /var/lib/kubelet/pods/p/data"); data != "precious\n" {
		t.Errorf("the volume holds %q", data)
	}
	s.inside(t, "pkill -f '[s]leep 100000'")
	reset(t, d, "reset-a")
}

func TestSudo(t *testing.T) {
	s := newSandbox(t)
	s.user = "ops"
	d := dial(t, s)
	if _, err := d.Probe(t.Context()); err != nil {
		t.Errorf("with sudo: %v", err)
	}
	s.inside(t, "touch /etc/sudo-refuses")
	var auth *driver.AuthFailedError
	if _, err := d.Probe(t.Context()); !errors.As(err, &auth) || auth.Stage != "sudo" || !strings.Contains(err.Error(), "password is required") {
		t.Errorf("without sudo: %v, want AuthFailedError", err)
	}
}

// A key that can't be verified must not even be asked for.
func TestPinnedTypeNotOffered(t *testing.T) {
	s := serve(t, nil)
	target := driver.Target{Address: "127.0.0.1", Port: int32(s.address.Port), User: "root", PrivateKey: s.client.private, HostKeys: []string{ecdsaKey}}
	var mismatch *driver.HostKeyMismatchError
	if _, err := rackssh.Dial(t.Context(), target); !errors.As(err, &mismatch) {
		t.Errorf("dialling: %v, want HostKeyMismatchError", err)
	}
	if len(s.received()) > 0 {
		t.Error("something was sent")
	}
}

// ecdsaKey is any key of a type that the test's server doesn't have.
const ecdsaKey = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg="
