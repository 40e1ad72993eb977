// SPDX-License-Identifier: Apache-2.0

// Package bootstrap turns the bootstrap data of a Machine into what a driver does on a host. It is pure: the same
// bytes and facts always give the same Payload.
//
// The kubeadm bootstrap provider writes its data for cloud-init, which on a machine that already runs is not there
// to read it. This package reads the part of cloud-config that provider emits (write_files, bootcmd, runcmd, ntp, users, disk_setup,
// fs_setup, mounts) and nothing else: a module or key it can't honour is an error, because a host that silently
// lacks a step looks healthy until it matters.
package bootstrap
