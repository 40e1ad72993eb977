// SPDX-License-Identifier: Apache-2.0

package nats

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/jwt/v2"
	client "github.com/nats-io/nats.go"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

// Requests that the system account may send. Every server answers for itself.
const (
	subjectLookup = "$SYS.REQ.ACCOUNT.%s.CLAIMS.LOOKUP"
	subjectUpdate = "$SYS.REQ.CLAIMS.UPDATE"
	subjectDelete = "$SYS.REQ.CLAIMS.DELETE"
)

// stragglers is how long further answers are waited for after each in a cluster:
// nobody says how many servers there are.
const stragglers = 150 * time.Millisecond

// connected returns the connection of the system account, made anew if it was lost.
func (d *driver) connected() (*client.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.system != nil && d.system.IsConnected() {
		return d.system, nil
	}
	if d.system != nil {
		d.system.Close()
		d.system = nil
	}
	nc, err := client.Connect(d.addresses(), d.admin...)
	if err != nil {
		return nil, d.explain(err, "connecting as the user of spec.nats.systemCredentials")
	}
	d.system = nc
	return nc, nil
}

// ask sends a request and returns all answers, or those up to the first that is
// enough. There is one at least; a server that is no cluster's is the only one.
func (d *driver) ask(ctx context.Context, subject string, request []byte, enough func([]byte) bool) ([][]byte, error) {
	nc, err := d.connected()
	if err != nil {
		return nil, err
	}
	inbox := nc.NewInbox()
	subscription, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	// Of a connection that is lost nothing is left to undo.
	defer func() { _ = subscription.Unsubscribe() }()
	if err := nc.PublishRequest(subject, inbox, request); err != nil {
		return nil, err
	}
	var out [][]byte
	for {
		until, cancel := ctx, context.CancelFunc(func() {})
		if len(out) > 0 {
			until, cancel = context.WithTimeout(ctx, stragglers)
		}
		message, err := subscription.NextMsgWithContext(until)
		cancel()
		switch {
		case err == nil:
			out = append(out, message.Data)
			if enough(message.Data) || nc.ConnectedClusterName() == "" {
				return out, nil
			}
		case len(out) > 0 && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			return out, nil
		default:
			return nil, err
		}
	}
}

// all is for requests of which every answer counts.
func all([]byte) bool { return false }

// push makes the servers take an account as it is described.
func (d *driver) push(ctx context.Context, claims *jwt.AccountClaims) error {
	doing := "writing the account of schema " + claims.Name
	// Within a second the same account has the same token, and one that differs the
	// same ID; servers ignore what they know, also after they have deleted it. Nobody
	// reads the audience of an account.
	claims.Audience = storage.NewPassword()
	token, err := claims.Encode(d.operator)
	if err != nil {
		return d.explain(err, doing)
	}
	raw, err := d.ask(ctx, subjectUpdate, []byte(token), all)
	if err != nil {
		return d.explain(err, doing)
	}
	_, err = d.answers(raw, doing)
	return err
}

// forget makes the servers delete accounts.
func (d *driver) forget(ctx context.Context, accounts ...string) ([]answer, error) {
	const doing = "deleting accounts"
	claims := jwt.NewGenericClaims(d.public)
	// An empty list must not become null.
	claims.Data["accounts"] = append([]string{}, accounts...)
	token, err := claims.Encode(d.operator)
	if err != nil {
		return nil, d.explain(err, doing)
	}
	raw, err := d.ask(ctx, subjectDelete, []byte(token), all)
	if err != nil {
		return nil, d.explain(err, doing)
	}
	return d.answers(raw, doing)
}
