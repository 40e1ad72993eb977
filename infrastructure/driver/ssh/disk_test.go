// SPDX-License-Identifier: Apache-2.0

package ssh_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/bootstrap"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
)

// loop makes a loop device in the sandbox.
func loop(t *testing.T, s *sandbox, size string) string {
	t.Helper()
	if missing := s.inside(t, "for c in sfdisk blkid losetup mkfs.ext4; do command -v $c >/dev/null || echo $c; done"); missing != "" {
		t.Skipf("needs %s", strings.Fields(missing))
	}
	out, err := s.enter("truncate -s " + size + " /disk && losetup -P -f --show /disk").Output()
	if err != nil {
		t.Skipf("needs a loop device: %v", err)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = s.enter("umount " + dev + " 2>/dev/null; losetup -d " + dev).Run() })
	return dev
}

// sentinel lets a payload without a join succeed.
func sentinel(commands ...string) bootstrap.Action {
	return script(append([]string{"mkdir -p /run/cluster-api"}, append(commands, joined)...)...)
}

// Only the table is looked at: not every kernel shows the partitions of a loop device.
func TestPartitions(t *testing.T) {
	s := newSandbox(t)
	d := dial(t, s)
	dev := loop(t, s, "64M")
	// The size of the last partition depends on how the tool aligns it; that it is the rest is sfdisk's promise.
	table := func() string {
		return s.inside(t, "sfdisk -d "+dev+` | sed -n 's/^label: //p; s/.*size= *30720, *\(type=[^,]*\).*/30720 \1/p; t; s/.*size=.*\(type=[^,]*\).*/rest \1/p'`)
	}
	split := bootstrap.Action{Disk: &bootstrap.Disk{Device: dev, TableType: "gpt",
		Partitions: []bootstrap.Partition{{Percent: 25, Type: "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"}, {Percent: 75}}}}
	whole := bootstrap.Action{Disk: &bootstrap.Disk{Device: dev, TableType: "mbr", Partitions: []bootstrap.Partition{{Percent: 100, Type: "83"}}}}
	kept := "gpt\n30720 type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F\nrest type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n"
	for _, step := range []struct {
		id        string
		action    bootstrap.Action
		overwrite bool
		want      string
	}{
		{"split", split, false, kept},
		{"in-use", whole, false, kept},
		{"overwritten", whole, true, "dos\nrest type=83\n"},
	} {
		step.action.Disk.Overwrite = step.overwrite
		if p := deliver(t, d, step.id, step.action, sentinel()); p.Phase != driver.Succeeded {
			t.Fatalf("%s is %s: %s\n%s", step.id, p.Phase, p.Reason, p.Tail)
		}
		if diff := cmp.Diff(step.want, table()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.id, diff)
		}
		reset(t, d, "reset-"+step.id)
	}
}

// A filesystem and a mount, twice: the second time what is there is kept. A foreign filesystem is never destroyed.
func TestFilesystems(t *testing.T) {
	s := newSandbox(t)
	d := dial(t, s)
	dev := loop(t, s, "16M")
	fs := bootstrap.Filesystem{Label: "data", Type: "ext4", Device: dev, ExtraOpts: []string{"-m", "0"}}
	mount := bootstrap.Action{Mount: &bootstrap.Mount{Device: dev, Point: "/srv/data", Type: "auto", Options: "defaults,nofail", Dump: "0", Pass: "2"}}
	for _, id := range []string{"a", "b"} {
		p := deliver(t, d, "claim-"+id, bootstrap.Action{Filesystem: &fs}, mount, sentinel("echo "+id+" >>/srv/data/x"))
		if p.Phase != driver.Succeeded {
			t.Fatalf("bootstrap %s is %s: %s\n%s", id, p.Phase, p.Reason, p.Tail)
		}
		if id == "b" {
			if got := s.inside(t, "cat /srv/data/x"); got != "a\nb\n" {
				t.Errorf("the filesystem was made again: it holds %q", got)
			}
		}
		reset(t, d, "reset-"+id)
		if mounts := s.inside(t, "grep /srv/data /proc/mounts /etc/fstab || :"); mounts != "" {
			t.Errorf("after the reset: %s", mounts)
		}
	}
	fs.Label = "other"
	p := deliver(t, d, "claim-c", bootstrap.Action{Filesystem: &fs}, sentinel())
	if p.Phase != driver.Failed || !strings.Contains(p.Reason, "holds a ext4 filesystem and overwrite is not set") {
		t.Errorf("over another filesystem: %+v", p)
	}
}
