// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
)

func TestDepartures(t *testing.T) {
	one, other := types.NamespacedName{Namespace: "a", Name: "one"}, types.NamespacedName{Namespace: "a", Name: "other"}
	start := time.Now()
	var d departures
	d.note(one, "early", start)
	d.note(one, "late", start.Add(20*time.Second))
	d.note(other, "early", start)
	if have := d.of(one, start.Add(desired.LeaseDuration)); !have["early"] || !have["late"] {
		t.Errorf("while both Leases may be valid: %v", have)
	}
	if have := d.of(one, start.Add(desired.LeaseDuration+time.Second)); have["early"] || !have["late"] {
		t.Errorf("when the first has run out: %v", have)
	}
	d.settle(one, map[string]bool{"late": true})
	if have := d.of(one, start); len(have) != 0 {
		t.Errorf("settled, but %v", have)
	}
	d.forget(other)
	if len(d.pods) != 0 {
		t.Errorf("left behind: %v", d.pods)
	}
}
