// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

func TestPick(t *testing.T) {
	for name, c := range map[string]struct {
		candidates []storage.Candidate
		want, why  string
	}{
		"smallest part in use":      {candidates: []storage.Candidate{{Name: "a", Tenants: 5, Max: 10}, {Name: "b", Tenants: 8, Max: 100}}, want: "b"},
		"full is passed over":       {candidates: []storage.Candidate{{Name: "a", Tenants: 1, Max: 1}, {Name: "b", Tenants: 99, Max: 100}}, want: "b"},
		"not usable is passed over": {candidates: []storage.Candidate{{Name: "a", Usable: "is not ready"}, {Name: "b", Tenants: 9, Max: 10}}, want: "b"},
		"no limit":                  {candidates: []storage.Candidate{{Name: "a", Tenants: 30}, {Name: "b", Tenants: 20}}, want: "b"},
		"no limit beside a limit":   {candidates: []storage.Candidate{{Name: "a", Tenants: 30}, {Name: "b", Tenants: 20, Max: 50}}, want: "b"},
		"equal: fewer tenants":      {candidates: []storage.Candidate{{Name: "a", Tenants: 10, Max: 20}, {Name: "b", Tenants: 5, Max: 10}}, want: "b"},
		"equal: by name":            {candidates: []storage.Candidate{{Name: "b"}, {Name: "a"}}, want: "a"},
		"none fits": {
			candidates: []storage.Candidate{{Name: "b", Tenants: 3, Max: 3}, {Name: "a", Usable: "is not ready: Unreachable"}},
			why:        "a is not ready: Unreachable; b has 3 of 3 tenants",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, why := storage.Pick(c.candidates)
			if got != c.want || why != c.why {
				t.Errorf("want %q (%s), got %q (%s)", c.want, c.why, got, why)
			}
		})
	}
}
