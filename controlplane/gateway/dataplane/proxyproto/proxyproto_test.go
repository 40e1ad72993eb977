// SPDX-License-Identifier: Apache-2.0

package proxyproto

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// sample of version 2, for a family and protocol byte and what follows.
func sample(command, family byte, rest string) string {
	return signature2 + string([]byte{command, family, byte(len(rest) >> 8), byte(len(rest))}) + rest
}

const (
	pair4 = "\xc0\x00\x02\x01\x0a\x00\x00\x01\x9c\x40\x19\x2b" // 192.0.2.1:40000 to 10.0.0.1:6443
	tlv   = "\x20\x00\x03abc"
)

var pair6 = "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01" + strings.Repeat("\x00", 16) + "\x9c\x40\x19\x2b"

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		name, header, client string
	}{
		{"version 1, IPv4", "PROXY TCP4 192.0.2.1 10.0.0.1 40000 6443\r\n", "192.0.2.1:40000"},
		{"version 1, IPv6", "PROXY TCP6 2001:db8::1 ::1 40000 6443\r\n", "[2001:db8::1]:40000"},
		{"version 1, mapped", "PROXY TCP6 ::ffff:192.0.2.1 ::1 40000 6443\r\n", "192.0.2.1:40000"},
		{"version 1, unknown", "PROXY UNKNOWN\r\n", ""},
		{"version 1, unknown with addresses", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ""},
		{"version 2, IPv4", sample(0x21, 0x11, pair4), "192.0.2.1:40000"},
		{"version 2, IPv4 with TLVs", sample(0x21, 0x11, pair4+tlv), "192.0.2.1:40000"},
		{"version 2, IPv6", sample(0x21, 0x21, pair6), "[2001:db8::1]:40000"},
		{"version 2, of the load balancer itself", sample(0x20, 0, ""), ""},
		{"version 2, of the load balancer itself with addresses", sample(0x20, 0x11, pair4), ""},
		{"version 2, Unix socket", sample(0x21, 0x31, strings.Repeat("p", 216)), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var want netip.AddrPort
			if tc.client != "" {
				want = netip.MustParseAddrPort(tc.client)
			}
			size, client, err := Parse([]byte(tc.header + "\x16\x03\x01"))
			if size != len(tc.header) || client != want || err != nil {
				t.Errorf("%d bytes, %v, %v, want %d bytes, %v", size, client, err, len(tc.header), want)
			}
			for n := range len(tc.header) {
				if _, _, err := Parse([]byte(tc.header[:n])); !errors.Is(err, ErrIncomplete) {
					t.Errorf("the first %d bytes: %v", n, err)
				}
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, header := range []string{
		"\x16\x03\x01", "GET / HTTP/1.1\r\n", "PROXY\r\n\r\n", "PROXY TCP4\r\n", "PROXY TCP4 192.0.2.1 10.0.0.1 40000\r\n",
		"PROXY TCP4 192.0.2.1 10.0.0.1 40000 6443\n", "PROXY TCP4 192.0.2.1 10.0.0.1 70000 6443\r\n", "PROXY TCP4 ::1 ::1 40000 6443\r\n",
		"PROXY TCP6 192.0.2.1 10.0.0.1 40000 6443\r\n", "PROXY TCP6 fe80::1%eth0 ::1 40000 6443\r\n", "PROXY UDP4 192.0.2.1 10.0.0.1 40000 6443\r\n",
		"PROXY TCP4 192.0.2.1 nowhere 40000 6443\r\n", "PROXY TCP4 " + strings.Repeat("1", 200),
		sample(0x11, 0x11, pair4), sample(0x22, 0x11, pair4), sample(0x21, 0x11, pair4[:8]), sample(0x21, 0x21, pair4),
	} {
		if size, client, err := Parse([]byte(header)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %d bytes, %v, %v", header, size, client, err)
		}
	}
}

// FuzzParse wants no harm, and the same answer whatever follows the header.
func FuzzParse(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 10.0.0.1 40000 6443\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(sample(0x21, 0x11, pair4+tlv)))
	f.Add([]byte(sample(0x21, 0x21, pair6)))
	f.Fuzz(func(t *testing.T, data []byte) {
		size, client, err := Parse(data)
		if err != nil {
			if size != 0 || client.IsValid() {
				t.Fatalf("%d bytes, %v beside %v", size, client, err)
			}
			return
		}
		if size <= 0 || size > len(data) {
			t.Fatalf("%d bytes of %d", size, len(data))
		}
		if again, same, err := Parse(data[:size]); again != size || same != client || err != nil {
			t.Fatalf("without what follows: %d bytes, %v, %v; with it %d, %v", again, same, err, size, client)
		}
		if client.Addr().Is4In6() {
			t.Fatalf("client %v is not unmapped", client)
		}
	})
}
