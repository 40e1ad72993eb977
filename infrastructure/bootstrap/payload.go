// SPDX-License-Identifier: Apache-2.0

package bootstrap

// Sentinel is the file by which the kubeadm bootstrap provider's cloud-config says that the join succeeded; the
// name is part of the Cluster API bootstrap contract.
const Sentinel = "/run/cluster-api/bootstrap-success.complete"

// JoinConfigPath is where the kubeadm bootstrap provider's cloud-config puts the JoinConfiguration of a worker.
const JoinConfigPath = "/run/kubeadm/kubeadm-join-config.yaml"

// Payload is bootstrap data made ready for one host: what to do, in order. It holds secrets (bootstrap token, user
// files): never log it, never put it in an object.
type Payload struct {
	// Actions in the order in which they are performed.
	Actions []Action
	// Sentinel is the file whose presence after the last action means success.
	Sentinel string
	// Hash is the hex SHA-256 of Actions and Sentinel: same hash, same payload.
	Hash string
}

// Action is one step; exactly one field is set.
type Action struct {
	File       *File
	Script     *Script
	User       *User
	NTP        *NTP
	Disk       *Disk
	Filesystem *Filesystem
	Mount      *Mount
}

// File is one entry of write_files, decoded.
type File struct {
	// Path is absolute and clean, Owner "user:group" or "user", empty for root:root, Permissions octal ("0644").
	Path, Owner, Permissions string
	Append                   bool
	// Secret files are removed once the operation has succeeded.
	Secret  bool
	Content []byte
}

// Script is a list of commands run by one /bin/sh without -e, as cloud-init runs runcmd: a failing command doesn't
// stop the ones after it.
type Script struct {
	// Name is the module it comes from: bootcmd or runcmd.
	Name string
	// Commands, each one or more lines of shell.
	Commands []string
	// Join is the index of the command that begins the join, -1 when there is none. From it on the operation must
	// not be repeated without a reset.
	Join int
}

// User is one entry of users. Empty fields are left to the host's defaults.
type User struct {
	Name, Gecos, HomeDir, Shell, PrimaryGroup string
	// Groups besides the primary one; missing ones are created.
	Groups []string
	// PasswordHash as in /etc/shadow.
	PasswordHash string
	// Sudo is the rule after the user's name in a sudoers line.
	Sudo string
	// Inactive accounts can't log in once their password has expired.
	Inactive bool
	// LockPassword is cloud-init's default: no login by password.
	LockPassword      bool
	SSHAuthorizedKeys []string
}

// NTP is the ntp module.
type NTP struct {
	Enabled bool
	Servers []string
}

// Disk is one entry of disk_setup.
type Disk struct {
	// Device is an absolute path; TableType mbr or gpt.
	Device, TableType string
	// Partitions in order; empty means that no partition is made. Percent of the disk, and the sfdisk type code.
	Partitions []Partition
	Overwrite  bool
}

// Partition is one partition of a Disk.
type Partition struct {
	// Percent of the disk, 1 to 100.
	Percent int
	// Type for sfdisk: an MBR hex code or GPT GUID, empty for Linux data.
	Type string
}

// Filesystem is one entry of fs_setup.
type Filesystem struct {
	Label string
	// Type as in mkfs.<type>.
	Type string
	// Device is an absolute path.
	Device string
	// Partition is "auto", "any", "none" or a number; empty means that Device is used as it is.
	Partition string
	// Replace names the type of an existing filesystem that may be replaced; Overwrite replaces any.
	Replace   string
	Overwrite bool
	// ExtraOpts are appended to the mkfs command.
	ExtraOpts []string
}

// Mount is one entry of mounts: a line of fstab.
type Mount struct {
	// Device is a path, LABEL=… or UUID=…; Point the directory, or "none" for swap.
	Device, Point, Type, Options, Dump, Pass string
}
