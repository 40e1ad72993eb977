// SPDX-License-Identifier: Apache-2.0

package quickstart

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// target is a TLS server as a client addresses it; an empty name sends no SNI.
type target struct {
	address netip.Addr
	port    uint16
	name    string
}

// expect makes a TLS handshake and wants it to reach an API server, or not. Whose it is the certificate would tell a
// real client; here only the way is looked at.
func (t target) expect(ctx context.Context, routed bool) error {
	address := net.JoinHostPort(t.address.String(), fmt.Sprint(t.port))
	dialer := tls.Dialer{
		NetDialer: &net.Dialer{Timeout: 5 * time.Second},
		Config:    &tls.Config{ServerName: t.name, InsecureSkipVerify: true}, //nolint:gosec // the way is tested, not the identity
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	connection, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		err = errors.Join(connection.Close(), nil)
		if !routed {
			return fmt.Errorf("%s with name %q reached a server", address, t.name)
		}
		return err
	}
	if routed {
		return fmt.Errorf("dialling %s with name %q: %w", address, t.name, err)
	}
	return nil
}
