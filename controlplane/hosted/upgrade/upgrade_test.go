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
		{"v1.34.1", "v1.36.3", "go to 1.35 first"},
		{"v1.28.0", "v1.30.1", "go to 1.29 first"},
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
	cases := []struct{ from, to, want string }{
		{"v1.35.1", "1.36.3", "v1.36.3"},
		{"v1.36.1", "v1.36.3", "v1.36.3"},
		{"v1.34.7", "v1.36.3", "v1.35.0"},
		{"v1.31.2", "v1.36.3", "v1.32.0"},
		{"v1.36.3", "v1.34.1", ""},
		{"v1.36.3", "v1.99.0", ""},
		{"?", "v1.36.3", ""},
	}
	for _, tc := range cases {
		got, err := Next(tc.from, tc.to)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("Next(%s, %s) = %q, %v; want %q", tc.from, tc.to, got, err, tc.want)
		}
	}
}
