// SPDX-License-Identifier: Apache-2.0

// Package ssh drives a host over SSH with nothing installed on it but a POSIX shell, tar and systemd.
//
// Every call is one session on one connection: a command whose text never changes unpacks a tar archive from its
// standard input and runs the script in it. What varies (names, payload) is files in that archive, so nothing from
// an object ever becomes part of a command line, and nothing secret can be seen in a process list.
//
// Operations run as transient systemd units. On the host:
//
//	/run/rack/ops/<id>/           tmpfs, root only: scripts and payload, removed when the operation ends
//	/var/lib/rack/ops/<id>/       state, log, join-started, what a reset needs for undoing
//	/var/lib/rack/current         id of the bootstrap that holds the host
package ssh
