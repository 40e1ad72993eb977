// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"
	"testing"
)

func TestFromEnd(t *testing.T) {
	for _, test := range []struct {
		subnet   string
		distance uint32
		want     string
	}{
		{"172.18.0.0/16", publicDistance, "172.18.255.250"},
		{"172.18.0.0/16", privateDistance, "172.18.255.251"},
		{"192.168.10.0/28", 5, "192.168.10.10"},
		{"10.0.0.77/8", 4, "10.255.255.251"},
	} {
		if got := fromEnd(netip.MustParsePrefix(test.subnet), test.distance).String(); got != test.want {
			t.Errorf("%d before the end of %s is %s, want %s", test.distance, test.subnet, got, test.want)
		}
	}
}
