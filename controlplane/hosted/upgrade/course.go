// SPDX-License-Identifier: Apache-2.0

package upgrade

// State is what is known about the versions of a control plane.
type State struct {
	// Wanted is the version in the spec.
	Wanted string
	// Served is the last version of which all pods were, and that was ready; empty for a new control plane.
	Served string
	// Live is the version in the pods' template, empty when there is none.
	Live string
	// LiveFailed is whether the roll-out of Live has not succeeded in its time.
	LiveFailed bool
	// Failed is a version that was given up with the present spec, empty for none.
	Failed string
}

// Course is which version to run now.
type Course struct {
	// Version to run. It is the wanted one, a step on the way there, or the served one.
	Version string
	// Begins is whether Version is not the one that runs, and is about to be rolled out.
	Begins bool
	// Failed is the version that was given up, to be kept for State.Failed.
	Failed string
	// Invalid is why the wanted version can't follow the one that has served.
	Invalid error
}

// Plan decides which version to run now. The error is a wanted version that can't
// be run, while there is none to stay with.
//
// A version whose pods don't get ready is left for the one that has served, once,
// until another is wanted or the spec changes. That is safe although the newer API
// servers may have written: a minor reads what its successor stores, since in any
// upgrade of several API servers both run side by side.
func (s Steps) Plan(state State) (Course, error) {
	if state.Served == "" {
		version, err := s.Next("", state.Wanted)
		return Course{Version: version}, err
	}
	next, err := s.Next(state.Served, state.Wanted)
	switch {
	case err != nil:
		return Course{Version: state.Served, Invalid: err}, nil
	case next == state.Served:
		return Course{Version: next}, nil
	case next == state.Live && state.LiveFailed, next == state.Failed:
		return Course{Version: state.Served, Failed: next}, nil
	}
	return Course{Version: next, Begins: next != state.Live}, nil
}
