// SPDX-License-Identifier: Apache-2.0

package ssh

import (
	"archive/tar"
	"bytes"
	"embed"
	"fmt"
	"strconv"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/bootstrap"
)

//go:embed host/*.sh
var scripts embed.FS

// archive is what a call sends: files in order.
type archive []member

type member struct {
	name    string
	content []byte
}

func (a *archive) add(name string, content []byte) { *a = append(*a, member{name, content}) }

// line adds a file of one line.
func (a *archive) line(name, value string) { a.add(name, []byte(value+"\n")) }

// optional adds a file of one line unless the value is empty.
func (a *archive) optional(name, value string) {
	if value != "" {
		a.line(name, value)
	}
}

// flag adds an empty file when set.
func (a *archive) flag(name string, set bool) {
	if set {
		a.add(name, nil)
	}
}

// lines adds a file of several lines unless there are none.
func (a *archive) lines(name string, values []string) {
	if len(values) > 0 {
		a.line(name, strings.Join(values, "\n"))
	}
}

// script adds an embedded script under another name.
func (a *archive) script(as, name string) {
	text, err := scripts.ReadFile("host/" + name)
	if err != nil {
		panic(err) // The name is a constant of this package.
	}
	a.add(as, text)
}

// pack writes the archive of a call of the named script.
func (a archive) pack(script string) ([]byte, error) {
	var all archive
	all.script("call.sh", script+".sh")
	all.script("lib.sh", "lib.sh")
	all = append(all, a...)
	all.flag("complete", true)

	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range all {
		if err := w.WriteHeader(&tar.Header{Name: m.name, Mode: 0o600, Size: int64(len(m.content)), Format: tar.FormatUSTAR}); err != nil {
			return nil, err
		}
		if _, err := w.Write(m.content); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}

// executor adds what goes to the operation's own directory: the script to run and what it needs.
func (a *archive) executor(name string, needs ...string) {
	a.script("work/run.sh", name)
	a.script("work/lib.sh", "lib.sh")
	for _, n := range needs {
		a.script("work/"+n, n)
	}
}

// payload adds the actions, each a directory with one file per field. Names sort in order of execution.
func (a *archive) payload(p bootstrap.Payload) {
	a.line("work/sentinel", p.Sentinel)
	for i, action := range p.Actions {
		dir := fmt.Sprintf("work/actions/%05d/", i)
		var one archive
		switch {
		case action.File != nil:
			one.file(*action.File)
		case action.Script != nil:
			one.line("kind", action.Script.Name)
			one.add("script", shell(*action.Script))
		case action.User != nil:
			one.user(*action.User)
		case action.NTP != nil:
			one.line("kind", "ntp")
			one.flag("enabled", action.NTP.Enabled)
			one.lines("servers", action.NTP.Servers)
		case action.Disk != nil:
			one.disk(*action.Disk)
		case action.Filesystem != nil:
			one.filesystem(*action.Filesystem)
		case action.Mount != nil:
			one.mount(*action.Mount)
		}
		for _, m := range one {
			a.add(dir+m.name, m.content)
		}
	}
}

func (a *archive) file(f bootstrap.File) {
	a.line("kind", "write_files")
	a.line("path", f.Path)
	a.line("owner", f.Owner)
	a.line("mode", f.Permissions)
	a.flag("append", f.Append)
	a.flag("secret", f.Secret)
	a.add("content", f.Content)
}

// shell is the script of a list of commands. The mark before the join is on the disk before the join begins: a
// host that loses power in the middle must not join again.
func shell(s bootstrap.Script) []byte {
	var out bytes.Buffer
	for i, command := range s.Commands {
		if i == s.Join {
			out.WriteString(`: >"$RACK_JOIN_STARTED" && { sync "$RACK_JOIN_STARTED" 2>/dev/null || sync; }` + "\n")
		}
		out.WriteString(command)
		out.WriteByte('\n')
	}
	return out.Bytes()
}

func (a *archive) user(u bootstrap.User) {
	a.line("kind", "users")
	a.line("name", u.Name)
	a.optional("gecos", u.Gecos)
	a.optional("homedir", u.HomeDir)
	a.optional("shell", u.Shell)
	a.optional("primary_group", u.PrimaryGroup)
	a.optional("passwd", u.PasswordHash)
	a.optional("sudo", u.Sudo)
	a.flag("inactive", u.Inactive)
	a.flag("lock_passwd", u.LockPassword)
	a.lines("groups", u.Groups)
	a.lines("keys", u.SSHAuthorizedKeys)
}

func (a *archive) disk(d bootstrap.Disk) {
	a.line("kind", "disk_setup")
	a.line("device", d.Device)
	label := d.TableType
	if label == "mbr" {
		label = "dos" // sfdisk's name
	}
	a.line("label", label)
	a.flag("overwrite", d.Overwrite)
	layout := make([]string, 0, len(d.Partitions))
	for _, p := range d.Partitions {
		layout = append(layout, strings.TrimSpace(strconv.Itoa(p.Percent)+" "+p.Type))
	}
	a.lines("layout", layout)
}

func (a *archive) filesystem(f bootstrap.Filesystem) {
	a.line("kind", "fs_setup")
	a.line("device", f.Device)
	a.line("type", f.Type)
	a.optional("label", f.Label)
	a.optional("partition", f.Partition)
	a.optional("replace", f.Replace)
	a.flag("overwrite", f.Overwrite)
	a.lines("extra_opts", f.ExtraOpts)
}

func (a *archive) mount(m bootstrap.Mount) {
	a.line("kind", "mounts")
	a.line("device", m.Device)
	a.line("point", m.Point)
	a.line("type", m.Type)
	a.line("options", m.Options)
	a.line("dump", m.Dump)
	a.line("pass", m.Pass)
}
