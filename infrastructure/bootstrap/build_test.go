// SPDX-License-Identifier: Apache-2.0

package bootstrap_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/utils/ptr"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	"sigs.k8s.io/cluster-api/bootstrap/kubeadm/pkg/cloudinit"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/bootstrap"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/golden"
)

const joinV1Beta4 = `apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery:
  bootstrapToken:
    apiServerEndpoint: tenant.example:6443
    caCertHashes:
    - sha256:0000000000000000000000000000000000000000000000000000000000000000
    token: abcdef.0123456789abcdef
nodeRegistration:
  imagePullPolicy: IfNotPresent
  kubeletExtraArgs:
  - name: node-labels
    value: a=b
  name: '{{ ds.meta_data.local_hostname }}'
  taints:
  - effect: NoSchedule
    key: node.cluster.x-k8s.io/uninitialized`

const joinV1Beta3 = `apiVersion: kubeadm.k8s.io/v1beta3
kind: JoinConfiguration
nodeRegistration:
  kubeletExtraArgs:
    node-labels: a=b
  taints: null`

var host = bootstrap.Host{Hostname: "rack1-07.example.com", InstanceID: "claim-1", FailureDomain: "rack1"}

func input(data []byte) bootstrap.Input {
	return bootstrap.Input{Data: data, ProviderID: "rack://host/claim", Host: host}
}

// everything uses each module and field that the kubeadm bootstrap provider can write.
func everything(t *testing.T) *cloudinit.NodeInput {
	t.Helper()
	return &cloudinit.NodeInput{JoinConfiguration: joinV1Beta4, BaseUserData: cloudinit.BaseUserData{
		BootCommands:        []string{"echo \"boot\""},
		PreKubeadmCommands:  []string{"echo 192.0.2.1 tenant.example >>/etc/hosts", "cat <<E\nx: \"y\"\nE"},
		PostKubeadmCommands: []string{"echo done"},
		KubeadmVerbosity:    "--v 5",
		AdditionalFiles: []bootstrapv1.File{
			{Path: "/etc/plain", Content: "one\ntwo", Owner: "root:root", Permissions: "0600"},
			{Path: "/etc/appended", Content: "more", Append: ptr.To(true)},
			{Path: "/etc/packed", Encoding: bootstrapv1.GzipBase64, Content: base64.StdEncoding.EncodeToString(packed(t, "unpacked"))},
			{Path: "/etc/encoded", Encoding: bootstrapv1.Base64, Content: base64.StdEncoding.EncodeToString([]byte("{{ not jinja }}"))},
		},
		NTP: &bootstrapv1.NTP{Enabled: ptr.To(true), Servers: []string{"ntp1.example", "192.0.2.2"}},
		Users: []bootstrapv1.User{
			{Name: "ops", Gecos: "Operations, on call", Groups: "adm, sudo", HomeDir: "/home/ops", Inactive: ptr.To(true), Shell: "/bin/bash",
				Passwd: "$6$salt$hash", PrimaryGroup: "ops", LockPassword: ptr.To(false), Sudo: "ALL=(ALL) NOPASSWD:ALL",
				SSHAuthorizedKeys: []string{"ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"}},
			{Name: "plain"},
		},
		DiskSetup: &bootstrapv1.DiskSetup{
			Partitions: []bootstrapv1.Partition{
				{Device: "/dev/sdb", Layout: ptr.To(true), Overwrite: ptr.To(false), TableType: "gpt"},
				{Device: "/dev/sdc", TableType: "gpt", DiskLayout: []bootstrapv1.PartitionSpec{{Percentage: 30, PartitionType: "LinuxSwap"}, {Percentage: 70}}},
			},
			Filesystems: []bootstrapv1.Filesystem{{Label: "data", Filesystem: "ext4", Device: "/dev/sdb1", Partition: "none", Overwrite: ptr.To(true),
				ReplaceFS: "xfs", ExtraOpts: []string{"-F", "-E", "lazy_itable_init=1"}}},
		},
		Mounts: []bootstrapv1.MountPoints{{"LABEL=data", "/var/lib/data"}, {"sdc1", "none", "swap", "sw"}},
	}}
}

func packed(t *testing.T, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func node(t *testing.T, in *cloudinit.NodeInput) []byte {
	t.Helper()
	data, err := cloudinit.NewNode(in)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestBuildGolden(t *testing.T) {
	for name, in := range map[string]*cloudinit.NodeInput{
		"plain":      {JoinConfiguration: joinV1Beta4},
		"v1beta3":    {JoinConfiguration: joinV1Beta3},
		"everything": everything(t),
	} {
		t.Run(name, func(t *testing.T) {
			data := node(t, in)
			payload, err := bootstrap.Build(input(data))
			if err != nil {
				t.Fatal(err)
			}
			golden.Text(t, filepath.Join("testdata", name+".golden"), describe(payload))
			again, err := bootstrap.Build(input(data))
			if err != nil || again.Hash != payload.Hash {
				t.Errorf("built twice: hash %s then %s, %v", payload.Hash, again.Hash, err)
			}
		})
	}
}

// describe is a payload as a reviewer wants to read it.
func describe(p bootstrap.Payload) string {
	var b strings.Builder
	for _, a := range p.Actions {
		switch {
		case a.File != nil:
			f := *a.File
			content := f.Content
			f.Content = nil
			fmt.Fprintf(&b, "file %+v\n%s\n", f, indent(string(content)))
		case a.Script != nil:
			fmt.Fprintf(&b, "script %s, join at %d\n", a.Script.Name, a.Script.Join)
			for _, c := range a.Script.Commands {
				fmt.Fprintf(&b, "%s\n", indent(c))
			}
		case a.User != nil:
			fmt.Fprintf(&b, "user %+v\n", *a.User)
		case a.NTP != nil:
			fmt.Fprintf(&b, "ntp %+v\n", *a.NTP)
		case a.Disk != nil:
			fmt.Fprintf(&b, "disk %+v\n", *a.Disk)
		case a.Filesystem != nil:
			fmt.Fprintf(&b, "filesystem %+v\n", *a.Filesystem)
		case a.Mount != nil:
			fmt.Fprintf(&b, "mount %+v\n", *a.Mount)
		}
	}
	fmt.Fprintf(&b, "sentinel %s\n", p.Sentinel)
	return b.String()
}

func indent(s string) string { return "  | " + strings.ReplaceAll(s, "\n", "\n  | ") }

// document is a valid one around the given modules.
func document(modules string) string {
	return "## template: jinja\n#cloud-config\n\nwrite_files:\n-   path: " + bootstrap.JoinConfigPath + "\n    content: |\n      " +
		strings.ReplaceAll(joinV1Beta3, "\n", "\n      ") + "\nruncmd:\n  - \"kubeadm join\"\n" + modules
}

func TestRejected(t *testing.T) {
	for _, c := range []struct{ name, data, want string }{
		{"unknown module", document("packages: [curl]\n"), "packages: module is not supported"},
		{"unknown key", document("users:\n- name: a\n  uid: 7\n"), "users[0].uid: key is not supported"},
		{"module twice", document("runcmd: []\n"), "runcmd: given twice"},
		{"merge key", document("ntp: {<<: {enabled: true}}\n"), "ntp.<<: key is not supported"},
		{"alias", document("bootcmd: [&a x, *a]\n"), "bootcmd[1]: must be a string"},
		{"command list", document("bootcmd: [[a, b]]\n"), "bootcmd[0]: must be a string"},
		{"encoding", strings.Replace(document(""), "    content:", "    encoding: b64\n    content:", 1), `encoding "b64" is not supported`},
		{"not base64", strings.Replace(document(""), "    content:", "    encoding: base64\n    content:", 1), "content is not base64"},
		{"not gzip", strings.Replace(document(""), "    content:", "    encoding: gzip\n    content:", 1), "content is not gzip"},
		{"relative path", strings.Replace(document(""), "/run/kubeadm", "run/kubeadm", 1), "is not a clean absolute path"},
		{"climbing path", strings.Replace(document(""), "/run/kubeadm", "/run/../run/kubeadm", 1), "is not a clean absolute path"},
		{"mode", strings.Replace(document(""), "    content:", "    permissions: 'u=rw'\n    content:", 1), "is not an octal mode"},
		{"owner", strings.Replace(document(""), "    content:", "    owner: '-R'\n    content:", 1), "is not user or user:group"},
		{"user name", document("users: [{name: 'a b'}]\n"), "users[0].name"},
		{"user line", document("users: [{name: a, sudo: \"ALL\\nroot\"}]\n"), "users[0].sudo: must be one line"},
		{"device", document("fs_setup: [{device: /etc/passwd, filesystem: ext4}]\n"), "fs_setup[0].device"},
		{"filesystem", document("fs_setup: [{device: /dev/sdb, filesystem: '../x'}]\n"), "fs_setup[0].filesystem"},
		{"layout", document("disk_setup: {/dev/sdb: {layout: [60, 50]}}\n"), "add up to 110"},
		{"partition type", document("disk_setup: {/dev/sdb: {table_type: gpt, layout: [[50, 85]]}}\n"), "is not possible in a gpt table"},
		{"mount point", document("mounts: [[/dev/sdb, etc]]\n"), "is not a clean absolute path"},
		{"mount field", document("mounts: [[/dev/sdb, '/a b']]\n"), "field 2 can't be written"},
		{"ntp server", document("ntp: {servers: ['a b']}\n"), "is not a host name"},
		{"boolean", document("ntp: {enabled: maybe}\n"), "ntp.enabled: must be true or false"},
		{"jinja unknown", document("bootcmd: ['{{ ds.meta_data.secret }}']\n"), `line 15: jinja variable "ds.meta_data.secret" is not known`},
		{"jinja filter", document("bootcmd: ['{{ v1.region | upper }}']\n"), "is not supported, only a variable's name"},
		{"jinja statement", document("bootcmd: ['{% if x %}']\n"), "is not supported, only {{ variable }}"},
		{"jinja open", document("bootcmd: ['{{ v1.region']\n"), "without end"},
		{"header", "#!/bin/sh\n", "first line is not #cloud-config"},
		{"empty", "#cloud-config\n", "document: empty"},
		{"list", "#cloud-config\n- a\n", "not a mapping"},
		{"two documents", document("---\na: b\n"), "more than one YAML document"},
		{"syntax", "#cloud-config\na: [\n", "not YAML"},
		{"no join command", strings.Replace(document(""), "kubeadm join", "true", 1), "has no kubeadm join"},
		{"no join configuration", strings.Replace(document(""), "kubeadm-join", "kubeadm-other", 1), "has no /run/kubeadm/kubeadm-join-config.yaml"},
		{"other kind", strings.Replace(document(""), "JoinConfiguration", "InitConfiguration", 1), "holds no JoinConfiguration"},
		{"other version", strings.Replace(document(""), "v1beta3", "v1beta9", 1), `apiVersion "kubeadm.k8s.io/v1beta9" is not supported`},
		{"provider ID set", strings.Replace(document(""), "node-labels: a=b", "provider-id: x", 1), "already has provider-id"},
		{"arguments' type", strings.Replace(document(""), "v1beta3", "v1beta4", 1), "kubeletExtraArgs has the wrong type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := bootstrap.Build(input([]byte(c.data)))
			var invalid *bootstrap.InvalidError
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
	if _, err := bootstrap.Build(input([]byte(document("")))); err != nil {
		t.Errorf("the document that all cases start from: %v", err)
	}
}

func TestFormats(t *testing.T) {
	in := input([]byte(document("")))
	in.Format = "cloud-config"
	if _, err := bootstrap.Build(in); err != nil {
		t.Error(err)
	}
	in.Format = "ignition"
	if _, err := bootstrap.Build(in); err == nil || !strings.Contains(err.Error(), `"ignition" is not supported`) {
		t.Errorf("ignition: %v", err)
	}
}

func TestTemplatesOnlyUnderHeader(t *testing.T) {
	data := strings.TrimPrefix(document("bootcmd: ['echo {{ anything }}']\n"), "## template: jinja\n")
	p, err := bootstrap.Build(input([]byte(data)))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Actions[0].Script.Commands[0]; got != "echo {{ anything }}" {
		t.Errorf("command is %q", got)
	}
}

func TestFactsCanNotInject(t *testing.T) {
	in := input([]byte(document("bootcmd: ['echo {{ v1.local_hostname }}']\n")))
	for _, name := range []string{"a;reboot", "a\nb", "$(reboot)", "a'b", ""} {
		in.Host.Hostname = name
		if _, err := bootstrap.Build(in); err == nil {
			t.Errorf("host name %q was rendered", name)
		}
	}
}
