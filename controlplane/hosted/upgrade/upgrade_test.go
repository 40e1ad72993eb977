// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	cases := []struct {
		from, to string
		// want is part of the error, or empty for none.
		want string
	}{
		{"", "v1.36.3", ""},
		{"", "1.31.0", ""},
		{"", "v1.29.9", "not supported"},
		{"", "v1.37.0", "not supported"},
		{"", "v2.0.0", "not supported"},
		{"", "1.36", "not of the form"},
		{"", "latest", "not of the form"},
		{"v1.35.1", "v1.36.3", ""},
		{"1.35.1", "v1.36.3", ""},
		{"v1.36.3", "1.36.3", ""},
		{"v1.36.3", "v1.36.1", ""},
		{"v1.36.0-rc.1", "v1.36.0", ""},
		{"v1.36.3", "v1.35.9", "older minor"},
		{"v1.31.1", "v1.36.3", ""},
		{"rubbish", "v1.36.3", ""},
	}
	for _, tc := range cases {
		t.Run(tc.from+"→"+tc.to, func(t *testing.T) {
			err := Check(tc.from, tc.to)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("unexpected error: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestNext(t *testing.T) {
	steps, err := ParseSteps([]string{"1.35.4"})
	if err != nil {
		t.Fatal(err)
	}
	delete(steps, 32)
	cases := []struct{ from, to, want string }{
		{"", "1.36.3", "v1.36.3"},
		{"v1.35.1", "1.36.3", "v1.36.3"},
		{"v1.36.1", "v1.36.3", "v1.36.3"},
		{"v1.36.3", "v1.36.1", "v1.36.1"},
		{"v1.33.7", "v1.36.3", "v1.34.10"},
		{"v1.34.10", "v1.36.3", "v1.35.4"},
		{"v1.35.4", "v1.36.3", "v1.36.3"},
		{"v1.31.2", "v1.36.3", "v1.32.0"},
		{"v1.36.3", "v1.34.1", ""},
		{"v1.36.3", "v1.99.0", ""},
		{"?", "v1.36.3", "v1.36.3"},
	}
	for _, tc := range cases {
		got, err := steps.Next(tc.from, tc.to)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("Next(%s, %s) = %q, %v; want %q", tc.from, tc.to, got, err, tc.want)
		}
	}
}

// TestStepsAreReached: each default is of its own minor, and every minor that can lie between two others has one.
func TestStepsAreReached(t *testing.T) {
	for minor := MinMinor + 1; minor < MaxMinor; minor++ {
		if Minor(DefaultSteps[minor]) != minor {
			t.Errorf("1.%d is passed through by %q", minor, DefaultSteps[minor])
		}
	}
	for _, wrong := range []string{"1.36", "v1.29.1", "x"} {
		if _, err := ParseSteps([]string{wrong}); err == nil {
			t.Errorf("%q is accepted as a step", wrong)
		}
	}
}

func TestPlan(t *testing.T) {
	for name, tc := range map[string]struct {
		state State
		want  Course
	}{
		"new":                              {State{Wanted: "1.36.3"}, Course{Version: "v1.36.3"}},
		"new, its pods fail":               {State{Wanted: "v1.36.3", Live: "v1.36.3", LiveFailed: true}, Course{Version: "v1.36.3"}},
		"settled":                          {State{Wanted: "v1.36.3", Served: "v1.36.3", Live: "v1.36.3"}, Course{Version: "v1.36.3"}},
		"settled, another change fails":    {State{Wanted: "v1.36.3", Served: "v1.36.3", Live: "v1.36.3", LiveFailed: true}, Course{Version: "v1.36.3"}},
		"a step begins":                    {State{Wanted: "v1.36.3", Served: "v1.34.1", Live: "v1.34.1"}, Course{Version: "v1.35.8", Begins: true}},
		"a step goes on":                   {State{Wanted: "v1.36.3", Served: "v1.34.1", Live: "v1.35.8"}, Course{Version: "v1.35.8"}},
		"the last step begins":             {State{Wanted: "v1.36.3", Served: "v1.35.8", Live: "v1.35.8"}, Course{Version: "v1.36.3", Begins: true}},
		"a step fails":                     {State{Wanted: "v1.36.3", Served: "v1.34.1", Live: "v1.35.8", LiveFailed: true}, Course{Version: "v1.34.1", Failed: "v1.35.8"}},
		"a failed step is not tried again": {State{Wanted: "v1.36.3", Served: "v1.34.1", Live: "v1.34.1", Failed: "v1.35.8"}, Course{Version: "v1.34.1", Failed: "v1.35.8"}},
		"another patch is wanted after a failure": {State{Wanted: "v1.35.7", Served: "v1.34.1", Live: "v1.34.1", Failed: "v1.35.8"}, Course{Version: "v1.35.7", Begins: true}},
		"given up by the user":                    {State{Wanted: "v1.34.1", Served: "v1.34.1", Live: "v1.35.8", LiveFailed: true}, Course{Version: "v1.34.1"}},
		"changed the mind on the way":             {State{Wanted: "v1.35.9", Served: "v1.34.1", Live: "v1.35.8"}, Course{Version: "v1.35.9", Begins: true}},
		"a patch back":                            {State{Wanted: "v1.36.1", Served: "v1.36.3", Live: "v1.36.3"}, Course{Version: "v1.36.1", Begins: true}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := DefaultSteps.Plan(tc.state)
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tc.want)
			}
		})
	}
	if got, err := DefaultSteps.Plan(State{Wanted: "v1.35.1", Served: "v1.36.3", Live: "v1.36.3"}); err != nil || got.Version != "v1.36.3" || got.Invalid == nil {
		t.Errorf("a minor back: %+v, %v", got, err)
	}
	if _, err := DefaultSteps.Plan(State{Wanted: "v1.99.0"}); err == nil {
		t.Error("a new control plane of an unknown version is accepted")
	}
}
