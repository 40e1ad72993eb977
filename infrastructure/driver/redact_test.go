// SPDX-License-Identifier: Apache-2.0

package driver_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
)

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"token abcdef.0123456789abcdef is bad":                                                "token [redacted] is bad",
		"--discovery-token-ca-cert-hash sha256:00 --token abcdef.0123456789abcdef":            "--discovery-token-ca-cert-hash sha256:00 --token [redacted]",
		"before\n-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\nafter": "before\n[redacted]\nafter",
		"before\n-----BEGIN CERTIFICATE-----\nAAAA":                                           "before\n[redacted]",
		"AAAA\n-----END CERTIFICATE-----\nafter":                                              "[redacted]\nafter",
		"Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln":                                 "Authorization: Bearer [redacted]",
		"got eyJhbGciOiJSUzI1NiJ9.e30.c2ln here":                                              "got [redacted] here",
		`{"password": "correct horse"}`:                                                       `{"password": "[redacted] horse"}`,
		"--certificate-key 0123456789abcdef":                                                  "--certificate-key [redacted]",
		"error: the token expired, see https://example.com/v1.36.3/":                          "error: the token expired, see https://example.com/v1.36.3/",
		"invalid bootstrap token":                                                             "invalid bootstrap token",
	} {
		if got := driver.Redact(in); got != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTail(t *testing.T) {
	long := strings.Repeat("a line with ünicode\n", 1000)
	for in, check := range map[string]func(string) bool{
		"":                       func(s string) bool { return s == "" },
		"a\r\n\x1b[31mb\x00\xff": func(s string) bool { return s == "a\n[31mb" },
		long: func(s string) bool {
			return len(s) <= driver.MaxTail && utf8.ValidString(s) && strings.HasPrefix(s, "a line") && strings.HasSuffix(s, "ünicode")
		},
		strings.Repeat("x", 10000): func(s string) bool { return s == "[redacted]" },
	} {
		if got := driver.Tail(in); !check(got) {
			t.Errorf("Tail of %d bytes is %q", len(in), got)
		}
	}
}

func TestValidID(t *testing.T) {
	for id, want := range map[string]bool{
		"a": true, "claim-1": true, "0": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "A": false, "a.b": false, "a/b": false, "a\n": false, strings.Repeat("a", 64): false,
	} {
		if driver.ValidID(id) != want {
			t.Errorf("ValidID(%q) is not %v", id, want)
		}
	}
}
