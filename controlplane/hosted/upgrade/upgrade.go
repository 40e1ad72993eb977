// SPDX-License-Identifier: Apache-2.0

// Package upgrade has the rules for which Kubernetes version may follow which.
package upgrade

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/version"
)

// Versions that the engine can run: its flags, documents and addons were written for these.
const (
	// MinMinor is the oldest supported minor version of Kubernetes 1.
	MinMinor = 30
	// MaxMinor is the newest.
	MaxMinor = 36
)

// Check returns an error that says why a control plane must not go from one
// version to another, or nil. An empty from means a new control plane. Patch
// versions of a minor may be changed in both directions, because they share
// their storage format; minors only go up, and one at a time.
func Check(from, to string) error {
	target, err := parse(to)
	if err != nil || from == "" {
		return err
	}
	current, err := version.ParseSemantic(from)
	if err != nil {
		// What runs was accepted once; it must not lock the object.
		return nil //nolint:nilerr // see above
	}
	switch {
	case target.Major() < current.Major(), target.Major() == current.Major() && target.Minor() < current.Minor():
		return fmt.Errorf("version %s is an older minor than %s, which stored objects that it can't read", to, from)
	case target.Minor() > current.Minor()+1:
		return fmt.Errorf("version %s skips minors after %s: go to 1.%d first", to, from, current.Minor()+1)
	}
	return nil
}

// Next is the version to go to now, on the way from one to another: the other
// itself, or the first release of the following minor when that is further away.
// It has the leading v. The error is that of Check, without its limit of one minor.
func Next(from, to string) (string, error) {
	target, err := parse(to)
	if err != nil {
		return "", err
	}
	current, err := version.ParseSemantic(from)
	if err != nil {
		return "", fmt.Errorf("running version %q: %w", from, err)
	}
	if target.Major() == current.Major() && target.Minor() > current.Minor()+1 {
		// The first release of a minor always exists; which patch is the newest
		// is not known here, and the version only serves as a step.
		return fmt.Sprintf("v%d.%d.0", current.Major(), current.Minor()+1), nil
	}
	if err := Check(from, to); err != nil {
		return "", err
	}
	return "v" + target.String(), nil
}

// Minor is the minor version number of a version of Kubernetes 1, or 0 if it can't be parsed.
func Minor(v string) int {
	parsed, err := version.ParseSemantic(v)
	if err != nil {
		return 0
	}
	return int(parsed.Minor())
}

func parse(wanted string) (*version.Version, error) {
	parsed, err := version.ParseSemantic(wanted)
	switch {
	case err != nil:
		return nil, fmt.Errorf("version %q is not of the form v1.2.3", wanted)
	case parsed.Major() != 1 || parsed.Minor() < MinMinor || parsed.Minor() > MaxMinor:
		return nil, fmt.Errorf("version %s is not supported: choose one from 1.%d to 1.%d", wanted, MinMinor, MaxMinor)
	}
	return parsed, nil
}
