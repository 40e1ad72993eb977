// SPDX-License-Identifier: Apache-2.0

package desired_test

import (
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
)

// Contents that differ must not have the same checksum because bytes move from one entry to the next.
func TestChecksum(t *testing.T) {
	seen := map[string]int{}
	for i, data := range []map[string]string{
		{}, {"": ""}, {"a": ""}, {"a": "b"}, {"ab": ""}, {"a": "b", "c": "d"}, {"a": "bc", "d": ""}, {"a": "b1:c1:d"}, {"a": "", "b": ""},
	} {
		sum := desired.Checksum(data)
		if before, taken := seen[sum]; taken || len(sum) != 32 {
			t.Errorf("%v: %q, as %d", data, sum, before)
		}
		seen[sum] = i
		if again := desired.Checksum(data); again != sum {
			t.Errorf("%v: %s, then %s", data, sum, again)
		}
	}
}
