// SPDX-License-Identifier: Apache-2.0

package gauge_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/gauge"
)

func TestInfoHasOneSamplePerObject(t *testing.T) {
	info := gauge.NewInfo("thing_status", "Status of things.", "name", "status")
	info.Set("a", "a", "Provisioning")
	info.Set("b", "b", "Ready")
	info.Set("a", "a", "Ready")
	info.Delete("b")
	info.Delete("never-seen")
	want := "# HELP thing_status Status of things.\n# TYPE thing_status gauge\nthing_status{name=\"a\",status=\"Ready\"} 1\n"
	if err := testutil.CollectAndCompare(info, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestCountFollowsObjects(t *testing.T) {
	count := gauge.NewCount("things", "Number of things.", "ready").Zero("true").Zero("false")
	for _, key := range []string{"a", "b", "c"} {
		count.Set(key, "false")
	}
	count.Set("a", "true")
	count.Set("a", "true")
	count.Delete("b")
	count.Delete("b")
	count.Set("d", "unknown")
	count.Delete("d")
	want := "# HELP things Number of things.\n# TYPE things gauge\nthings{ready=\"false\"} 1\nthings{ready=\"true\"} 1\n"
	if err := testutil.CollectAndCompare(count, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
