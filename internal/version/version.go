// SPDX-License-Identifier: Apache-2.0

// Package version says which build is running. The values are stamped at link time (see the Makefile's LDFLAGS).
package version

import "fmt"

var (
	// Version is the release, "v0.1.0", or "dev" for a build that nobody stamped.
	Version = "dev"
	// Commit is the full Git commit of the build, or "unknown".
	Commit = "unknown"
)

// String is what --version prints: "v0.1.0 (commit 1f2e…)".
func String() string { return fmt.Sprintf("%s (commit %s)", Version, Commit) }
