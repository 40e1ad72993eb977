// SPDX-License-Identifier: Apache-2.0

package route

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Limits of DNS names (RFC 1035).
const (
	maxHost  = 253
	maxLabel = 63
)

// NormalizeHost brings a host name into the one form that is compared: lower case, no trailing dot. It fails for anything that
// is not a DNS name of letters, digits and hyphens, and for IP addresses, which clients must not send as server name (RFC 6066).
func NormalizeHost(host string) (string, error) {
	h := strings.ToLower(strings.TrimSuffix(host, "."))
	if h == "" {
		return "", errors.New("host name is empty")
	}
	if len(h) > maxHost {
		return "", fmt.Errorf("host name has %d characters, more than %d", len(h), maxHost)
	}
	if _, err := netip.ParseAddr(h); err == nil {
		return "", fmt.Errorf("%q is an IP address, not a host name", h)
	}
	for label := range strings.SplitSeq(h, ".") {
		if err := checkLabel(label); err != nil {
			return "", fmt.Errorf("host name %q: %w", h, err)
		}
	}
	return h, nil
}

func checkLabel(label string) error {
	if label == "" || len(label) > maxLabel {
		return fmt.Errorf("each part must have 1 to %d characters", maxLabel)
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return errors.New("no part may begin or end with a hyphen")
	}
	for i := range len(label) {
		c := label[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return errors.New("only letters, digits, hyphens and dots are allowed")
		}
	}
	return nil
}
