// SPDX-License-Identifier: Apache-2.0

package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
)

// dialTimeout bounds connecting and logging in when the context gives no earlier deadline.
const dialTimeout = 15 * time.Second

// keepAlive is the interval of TCP probes: a host that died is noticed within a minute or so.
const keepAlive = 15 * time.Second

var _ driver.Dialer = Dial

// Dial logs in to a host whose key is pinned. See driver.Dialer for the errors.
func Dial(ctx context.Context, target driver.Target) (driver.Driver, error) {
	keys, err := hostKeys(target)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(target.PrivateKey)
	if err != nil {
		// The parser's error could quote the key.
		return nil, &driver.InvalidTargetError{Field: "private key", Reason: "not an unencrypted PEM or OpenSSH private key"}
	}
	if target.Address == "" || target.User == "" {
		return nil, &driver.InvalidTargetError{Field: "target", Reason: "address and user must be given"}
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()

	port := target.Port
	if port == 0 {
		port = 22
	}
	address := net.JoinHostPort(target.Address, strconv.Itoa(int(port)))
	conn, err := (&net.Dialer{KeepAlive: keepAlive}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, unreachable(ctx, target, err)
	}
	// The handshake knows no context; closing the connection ends it.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	check := &pinned{keys: keys}
	config := &ssh.ClientConfig{
		User:              target.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   check.callback,
		HostKeyAlgorithms: algorithms(keys),
	}
	client, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		stop()
		_ = conn.Close()
		return nil, check.explain(ctx, target, err)
	}
	return &host{target: target, client: ssh.NewClient(client, channels, requests)}, nil
}

// pinned is the host key check; it remembers what it saw, because the library hides the callback's error in text.
type pinned struct {
	keys      []ssh.PublicKey
	presented string
	matched   bool
}

var errNotPinned = errors.New("host key is not pinned")

func (p *pinned) callback(_ string, _ net.Addr, key ssh.PublicKey) error {
	p.presented = ssh.FingerprintSHA256(key)
	p.matched = slices.ContainsFunc(p.keys, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), key.Marshal()) })
	if !p.matched {
		return errNotPinned
	}
	return nil
}

// explain turns a failed handshake into a typed error.
func (p *pinned) explain(ctx context.Context, target driver.Target, err error) error {
	var negotiation *ssh.AlgorithmNegotiationError
	switch {
	case p.presented != "" && !p.matched:
		return &driver.HostKeyMismatchError{Address: target.Address, Presented: p.presented}
	case errors.As(err, &negotiation) && strings.Contains(err.Error(), "host key"):
		return &driver.HostKeyMismatchError{Address: target.Address}
	case p.matched && strings.Contains(err.Error(), "unable to authenticate"):
		return &driver.AuthFailedError{Address: target.Address, User: target.User, Stage: "login", Err: errors.New("public key not accepted")}
	}
	return unreachable(ctx, target, err)
}

func unreachable(ctx context.Context, target driver.Target, err error) error {
	// Closing the connection at the deadline makes odd errors; the deadline is the reason.
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return &driver.UnreachableError{Address: target.Address, Err: err}
}

func hostKeys(target driver.Target) ([]ssh.PublicKey, error) {
	if len(target.HostKeys) == 0 {
		return nil, &driver.HostKeyUnpinnedError{Address: target.Address}
	}
	keys := make([]ssh.PublicKey, 0, len(target.HostKeys))
	for i, text := range target.HostKeys {
		key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(text))
		if err != nil || len(bytes.TrimSpace(rest)) > 0 {
			return nil, &driver.InvalidTargetError{Field: fmt.Sprintf("host key %d", i+1), Reason: "not one key in authorized_keys format"}
		}
		if _, certificate := key.(*ssh.Certificate); certificate {
			return nil, &driver.InvalidTargetError{Field: fmt.Sprintf("host key %d", i+1), Reason: "certificates can't be pinned"}
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// algorithms lets the server choose among pinned types only: left free, it may offer a key of another type, which
// then looks like a mismatch.
func algorithms(keys []ssh.PublicKey) []string {
	var out []string
	for _, key := range keys {
		names := []string{key.Type()}
		if key.Type() == ssh.KeyAlgoRSA {
			names = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
		}
		for _, name := range names {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}
