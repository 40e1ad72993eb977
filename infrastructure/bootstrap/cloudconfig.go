// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bytes"
	"strings"

	"go.yaml.in/yaml/v3"
)

// cloudConfig is a parsed document, module by module.
type cloudConfig struct {
	files           []File
	bootcmd, runcmd []string
	ntp             *NTP
	users           []User
	disks           []Disk
	filesystems     []Filesystem
	mounts          []Mount
}

// parse reads cloud-config strictly. Errors are InvalidError and quote no values.
func parse(data []byte) (*cloudConfig, error) {
	if !marked(data) {
		return nil, invalid("document", "first line is not #cloud-config")
	}
	root, err := document(data)
	if err != nil {
		return nil, err
	}
	c := &cloudConfig{}
	return c, mapping(root, "", map[string]field{
		"write_files": c.readFiles,
		"bootcmd":     commands(&c.bootcmd),
		"runcmd":      commands(&c.runcmd),
		"ntp":         c.readNTP,
		"users":       c.readUsers,
		"disk_setup":  c.readDisks,
		"fs_setup":    c.readFilesystems,
		"mounts":      c.readMounts,
	})
}

// marked looks for the line by which cloud-init recognises the format, after the optional template line.
func marked(data []byte) bool {
	for _, l := range bytes.SplitN(data, []byte("\n"), 3) {
		s := string(bytes.TrimRight(l, " \t\r"))
		if s == "#cloud-config" {
			return true
		}
		if !jinjaHeader.MatchString(s) {
			return false
		}
	}
	return false
}

// commands reads a list of shell commands. cloud-init also takes lists of arguments; the kubeadm bootstrap provider never writes them.
func commands(into *[]string) field {
	return func(n *yaml.Node, path string) error {
		return list(n, path, func(n *yaml.Node, path string) error {
			var s string
			if err := text(&s)(n, path); err != nil {
				return err
			}
			if strings.ContainsRune(s, 0) {
				return invalid(path, "must not contain NUL")
			}
			*into = append(*into, s)
			return nil
		})
	}
}

func (c *cloudConfig) readNTP(n *yaml.Node, path string) error {
	ntp := NTP{Enabled: true}
	if err := mapping(n, path, map[string]field{
		"enabled": boolean(&ntp.Enabled),
		"servers": lines(&ntp.Servers),
	}); err != nil {
		return err
	}
	for _, s := range ntp.Servers {
		if !safeValue.MatchString(s) {
			return invalid(path+".servers", "%q is not a host name or address", clip(s))
		}
	}
	c.ntp = &ntp
	return nil
}

// actions puts the modules in the order in which cloud-init performs them.
func (c *cloudConfig) actions() []Action {
	var out []Action
	if len(c.bootcmd) > 0 {
		out = append(out, Action{Script: &Script{Name: "bootcmd", Commands: c.bootcmd, Join: -1}})
	}
	for i := range c.files {
		out = append(out, Action{File: &c.files[i]})
	}
	for i := range c.disks {
		out = append(out, Action{Disk: &c.disks[i]})
	}
	for i := range c.filesystems {
		out = append(out, Action{Filesystem: &c.filesystems[i]})
	}
	for i := range c.mounts {
		out = append(out, Action{Mount: &c.mounts[i]})
	}
	for i := range c.users {
		out = append(out, Action{User: &c.users[i]})
	}
	if c.ntp != nil {
		out = append(out, Action{NTP: c.ntp})
	}
	return append(out, Action{Script: &Script{Name: "runcmd", Commands: c.runcmd, Join: joinCommand(c.runcmd)}})
}

// joinCommand finds where the join begins.
func joinCommand(commands []string) int {
	for i, c := range commands {
		if strings.Contains(c, "kubeadm join") {
			return i
		}
	}
	return -1
}
