// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"regexp"
	"strings"
	"unicode"
)

const redacted = "[redacted]"

var (
	// bootstrapToken is the shape kubeadm and the API server demand of bootstrap tokens.
	bootstrapToken = regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b`)
	pemBlock       = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]+-----.*?(-----END [A-Z0-9 ]+-----|$)`)
	// pemEnd: a block whose beginning was cut off.
	pemEnd = regexp.MustCompile(`(?s)^.*?-----END [A-Z0-9 ]+-----`)
	// jwt: service account and identity tokens; the header always begins with {" in base64.
	jwt = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`)
	// named catches what programs print next to a telling name: "token: x", "password=x", "--token x". Prose such as
	// "token expired" stays readable.
	named = regexp.MustCompile(`(?i)((?:token|passw(?:or)?d|secret|certificate-key|client-key-data|authorization)["']?\s*[:=]\s*["']?(?:bearer\s+)?|--[a-z-]*(?:token|password|certificate-key)\s+)[^\s"',]{6,}`)
)

// Redact removes secrets from what a host printed: bootstrap tokens, PEM blocks, JWTs and values next to a name
// such as "token" or "password".
func Redact(s string) string {
	s = pemBlock.ReplaceAllString(s, redacted)
	s = pemEnd.ReplaceAllString(s, redacted)
	s = bootstrapToken.ReplaceAllString(s, redacted)
	s = jwt.ReplaceAllString(s, redacted)
	return named.ReplaceAllString(s, "${1}"+redacted)
}

// Tail redacts a log and keeps its last lines, at most MaxTail bytes, without control characters.
func Tail(log string) string {
	s := strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(Redact(log), ""))
	s = strings.TrimSpace(s)
	if len(s) > MaxTail {
		s = s[len(s)-MaxTail:]
		// Half a line could be half a secret.
		if _, rest, found := strings.Cut(s, "\n"); found {
			s = rest
		} else {
			s = redacted
		}
	}
	return s
}
