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

// Script is a list of commands run by one /bin/sh without -e, as cloud-init does with runcmd.
type Script struct {
	// Name is the module it comes from: bootcmd or runcmd.
	Name string
	// Text of the script.
	Text string
}

// User is one entry of users.
type User struct {
	Name, Gecos, Groups, HomeDir, Shell, PasswordHash, PrimaryGroup, Sudo string
	Inactive, LockPassword                                                bool
	SSHAuthorizedKeys                                                     []string
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
	Label, Filesystem, Device, Partition, ReplaceFS string
	Overwrite                                       bool
	ExtraOpts                                       []string
}

// Mount is one entry of mounts: the fields of an fstab line, at most six.
type Mount struct{ Fields []string }
