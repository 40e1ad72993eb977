// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseNetworks(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "[] false",
		"auto":                                "[] true",
		"172.18.0.7/16,10.244.0.0/16":         "[10.244.0.0/16 172.18.0.0/16] false",
		"192.0.2.10,auto,fd00::/8,192.0.2.10": "[192.0.2.10/32 fd00::/8] true",
		"10.244.0.0":                          "[10.244.0.0/32] false",
		"10.244.0.0/33":                       `"10.244.0.0/33" is neither auto nor a network such as 10.244.0.0/16 nor an address`,
		"example.com":                         `"example.com" is neither auto nor a network such as 10.244.0.0/16 nor an address`,
	} {
		given, auto, err := parseNetworks(strings.FieldsFunc(text, func(r rune) bool { return r == ',' }))
		have := fmt.Sprint(given, auto)
		if err != nil {
			have = err.Error()
		}
		if have != want {
			t.Errorf("%q: %s, want %s", text, have, want)
		}
	}
}
