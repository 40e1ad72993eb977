// SPDX-License-Identifier: Apache-2.0

// Package upgrade has the rules for which Kubernetes version may follow which, by
// which steps, and what has to be in order before.
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

// Steps says by which patch release a minor is gone through on the way to a later one.
type Steps map[int]string

// DefaultSteps are the newest releases at the time of writing.
var DefaultSteps = Steps{31: "v1.31.14", 32: "v1.32.13", 33: "v1.33.13", 34: "v1.34.10", 35: "v1.35.8"}

// ParseSteps returns DefaultSteps with the given versions in the places of theirs.
func ParseSteps(given []string) (Steps, error) {
	out := Steps{}
	for minor, v := range DefaultSteps {
		out[minor] = v
	}
	for _, v := range given {
		parsed, err := parse(v)
		if err != nil {
			return nil, err
		}
		out[int(parsed.Minor())] = "v" + parsed.String()
	}
	return out, nil
}

// Check returns an error that says why a control plane must not go from one
// version to another, or nil. An empty from means a new control plane. Patch
// versions of a minor may be changed in both directions, because they share their
// storage format. Minors only go up, by any number: see Steps.Next.
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
	if target.Major() < current.Major() || target.Major() == current.Major() && target.Minor() < current.Minor() {
		return fmt.Errorf("version %s is an older minor than %s, which stored objects that it can't read", to, from)
	}
	return nil
}

// Next is the version to go to now, on the way from one to another: the other
// itself, or a release of the following minor when that is further away. An API
// server reads what the minor before it has stored, and promises nothing about
// older ones. The result has the leading v, the error is that of Check.
func (s Steps) Next(from, to string) (string, error) {
	if err := Check(from, to); err != nil {
		return "", err
	}
	target, err := parse(to)
	if err != nil {
		return "", err
	}
	current, err := version.ParseSemantic(from)
	if err != nil || target.Minor() <= current.Minor()+1 {
		return "v" + target.String(), nil //nolint:nilerr // as in Check
	}
	minor := int(current.Minor()) + 1
	if step, known := s[minor]; known {
		return step, nil
	}
	// The first release of a minor always exists.
	return fmt.Sprintf("v1.%d.0", minor), nil
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
