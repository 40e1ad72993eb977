// SPDX-License-Identifier: Apache-2.0

package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/kine"
)

const (
	// subjectConnections asks every server for its connections of an account.
	subjectConnections = "$SYS.REQ.ACCOUNT.%s.CONNZ"
	// refused is where a tenant's writes lead while it is frozen. Nobody listens there,
	// and servers say so at once; to what they don't permit they give no answer, so
	// that a kube-apiserver would wait for its time-out.
	refused = "kamaji.refused.>"
	// operationHeader says what a message does to its key, operationDelete that it
	// deletes it. Nothing is said of one that writes a value.
	operationHeader, operationDelete = "KV-Operation", "DEL"
	// slack is how many bytes more than its tenant may use an account has while it is
	// held: one that is full must be able to move.
	slack = 1 << 20
)

// reading is what a tenant may publish while it is frozen: requests that change
// nothing in its bucket.
func reading(tenant storage.Tenant) jwt.StringList {
	name := stream(tenant)
	return jwt.StringList{
		"$JS.API.INFO", "$JS.API.STREAM.INFO." + name, "$JS.API.STREAM.MSG.GET." + name,
		"$JS.API.DIRECT.GET." + name, "$JS.API.DIRECT.GET." + name + ".>",
		"$JS.API.CONSUMER.*." + name, "$JS.API.CONSUMER.*." + name + ".>", "$JS.API.CONSUMER.MSG.NEXT." + name + ".>",
		"$JS.ACK.>", "$JS.FC.>", refused,
	}
}

// held is a tenant's account that an attempt holds, given what there is.
func (d *driver) held(have *jwt.AccountClaims, tenant storage.Tenant, held string) (*jwt.AccountClaims, error) {
	out := d.blank(tenant)
	if quota := d.config.NATS.TenantStorage; quota > 0 {
		out.Limits.DiskStorage = (quota + slack) * int64(d.config.NATS.Replicas)
	}
	out.DefaultPermissions.Pub.Allow = reading(tenant)
	entrance, err := d.entrance(tenant, held)
	if err != nil {
		return nil, d.explain(err, "holding schema "+tenant.Schema)
	}
	out.AddMapping(jwt.Subject(bucketPrefix(tenant)+">"), jwt.WeightedMapping{Subject: refused})
	out.AddMapping(jwt.Subject(entrance+">"), jwt.WeightedMapping{Subject: jwt.Subject(bucketPrefix(tenant) + ">")})
	out.Tags.Add(heldPrefix + held)
	for _, tag := range have.Tags {
		if strings.HasPrefix(tag, retirePrefix) {
			out.Tags.Add(tag)
		}
	}
	return out, d.permit(out, tenant, d.keysOf(have, tenant), held)
}

// Freeze implements storage.Mover. The account takes the right to publish anything
// but requests for reading from all tokens that say nothing of rights, which those
// of tenants are; and as connections keep the rights that they began with, all of
// them are ended. kine makes new ones.
func (d *driver) Freeze(ctx context.Context, tenant storage.Tenant, token string) (string, error) {
	if err := d.admissible(tenant); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	if err := d.hold(ctx, tenant, attempt(token)); err != nil {
		return "", err
	}
	seal := ""
	err := d.inside(ctx, tenant, "freezing schema "+tenant.Schema, func(have *jwt.AccountClaims, js jetstream.JetStream) error {
		if holder(have) != attempt(token) {
			return storage.Errorf(storage.ReasonPermissionDenied, "schema %s in DataStore %s was taken over by another migration", tenant.Schema, d.config.Name)
		}
		if err := d.usual(ctx, js, tenant); err != nil {
			return err
		}
		if err := d.tryWrites(ctx, tenant, holder(have)); err != nil {
			return err
		}
		state, err := d.state(ctx, js, tenant)
		if err != nil {
			return err
		}
		seal = fmt.Sprintf("%d messages, the last is %d", state.State.Msgs, state.State.LastSeq)
		return nil
	})
	return seal, err
}

// hold makes the account that of an attempt, unless it is already.
func (d *driver) hold(ctx context.Context, tenant storage.Tenant, held string) error {
	lock := d.alone(tenant)
	lock.Lock()
	defer lock.Unlock()
	have, err := d.look(ctx, tenant)
	if err != nil {
		return err
	}
	if have == nil || have.Description != ownerPrefix+tenant.Owner {
		return storage.Errorf(storage.ReasonTaken, "the account of schema %s in DataStore %s is not that of %s", tenant.Schema, d.config.Name, tenant.Owner)
	}
	want, err := d.held(have, tenant, held)
	if err != nil || d.equal(have, want) {
		return err
	}
	return d.replace(ctx, want)
}

// release gives an account back to its tenant. What a former holder has sent may
// still be under way from one server to another. It counts on the last sequence of
// the bucket, so that one message between shuts it out for good; and the account
// is held until that is written.
func (d *driver) release(ctx context.Context, tenant storage.Tenant, have, want *jwt.AccountClaims) error {
	doing := "ending the freeze of schema " + tenant.Schema
	between, err := d.held(have, tenant, attempt(storage.NewPassword()))
	if err != nil {
		return err
	}
	if err := d.push(ctx, between); err != nil {
		return err
	}
	entrance, err := d.entrance(tenant, holder(between))
	if err != nil {
		return d.explain(err, doing)
	}
	nc, err := d.as(ctx, tenant, holder(between), everything())
	if err != nil {
		return d.explain(err, doing)
	}
	defer nc.Close()
	err = settled(ctx, func() error {
		if err := d.bucket(ctx, nc, tenant); err != nil {
			return err
		}
		js, err := jetstream.New(nc)
		if err != nil {
			return err
		}
		_, err = js.PublishMsg(ctx, gap(entrance))
		return err
	})
	if err != nil {
		return d.explain(err, doing)
	}
	return d.replace(ctx, want)
}

// replace makes the servers take an account, and leaves no connection that is older.
func (d *driver) replace(ctx context.Context, claims *jwt.AccountClaims) error {
	empty := *claims
	empty.Limits.Conn = 0
	if err := d.push(ctx, &empty); err != nil {
		return err
	}
	if err := d.deserted(ctx, claims); err != nil {
		return err
	}
	return d.push(ctx, claims)
}

// deserted waits until no server has a connection of an account. Before it looks
// for the first time it leaves those time that are only being made, with rights
// that were read before.
func (d *driver) deserted(ctx context.Context, claims *jwt.AccountClaims) error {
	doing := "ending the connections of schema " + claims.Name
	until, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	for {
		select {
		case <-until.Done():
			return storage.Errorf(storage.ReasonUnreachable, "NATS of DataStore %s: %s: a server still has some", d.config.Name, doing)
		case <-time.After(settleEvery):
		}
		answers, err := d.ask(ctx, fmt.Sprintf(subjectConnections, claims.Subject), []byte(`{"limit":1}`), all)
		if err != nil {
			return d.explain(err, doing)
		}
		open := 0
		for _, text := range answers {
			var a struct {
				Data struct {
					Total int `json:"total"`
				} `json:"data"`
			}
			if err := json.Unmarshal(text, &a); err != nil {
				return d.explain(err, doing)
			}
			open += a.Data.Total
		}
		if open == 0 {
			return nil
		}
	}
}

// usual makes the bucket if there is none, and refuses one that is not as kine
// makes it: a stream may be fed from others, tell others what is written, or lose
// what is older than an hour. The servers compare.
func (d *driver) usual(ctx context.Context, js jetstream.JetStream, tenant storage.Tenant) error {
	if err := d.bucket(ctx, js.Conn(), tenant); err != nil {
		return err
	}
	_, err := js.CreateKeyValue(ctx, d.asKineMakes(tenant))
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) || errors.Is(err, jetstream.ErrBucketExists) {
		return storage.Errorf(storage.ReasonInvalid,
			"stream %s of schema %s in DataStore %s has settings that kine doesn't make; remove them", stream(tenant), tenant.Schema, d.config.Name)
	}
	return err
}

// tryWrites acts with a token like the tenant's, and must be refused. What it asks
// for would do no harm.
func (d *driver) tryWrites(ctx context.Context, tenant storage.Tenant, held string) error {
	nc, err := d.as(ctx, tenant, held, jwt.Permissions{})
	if err != nil {
		return err
	}
	defer nc.Close()
	answer, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	if _, err := nc.RequestMsgWithContext(answer, gap(bucketPrefix(tenant))); !errors.Is(err, client.ErrNoResponders) {
		return d.writable(tenant, "its bucket", err)
	}
	entrance, err := d.entrance(tenant, held)
	if err != nil {
		return err
	}
	// Rights are looked at once it is known where a subject leads.
	for subject, of := range map[string]string{
		gap(entrance).Subject: bucketPrefix(tenant), "$JS.API.STREAM.UPDATE." + stream(tenant): "$JS.API.STREAM.UPDATE.",
		"$JS.API.STREAM.PURGE." + stream(tenant): "$JS.API.STREAM.PURGE.", "$JS.API.STREAM.DELETE." + stream(tenant): "$JS.API.STREAM.DELETE.",
		"$JS.API.STREAM.MSG.DELETE." + stream(tenant): "$JS.API.STREAM.MSG.DELETE.",
	} {
		message := gap(entrance)
		message.Subject, message.Data = subject, []byte("-")
		if err := nc.PublishMsg(message); err != nil {
			return err
		}
		// The refusal comes before the answer to this.
		if err := nc.FlushWithContext(ctx); err != nil {
			return err
		}
		if err := nc.LastError(); !errors.Is(err, client.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+of) {
			return d.writable(tenant, subject, err)
		}
	}
	return nil
}

// writable reports a tenant that is not frozen although it should be.
func (d *driver) writable(tenant storage.Tenant, subject string, got error) error {
	return &storage.Error{Reason: storage.ReasonInternal, Err: got, Message: fmt.Sprintf(
		"user %s may still publish to %s in schema %s of DataStore %s; something else changes its account", tenant.User, subject, tenant.Schema, d.config.Name)}
}

// gap is a message that only takes a sequence: the deletion of a key that there
// never was, of which kine tells nobody.
func gap(prefix string) *client.Msg {
	message := client.NewMsg(prefix + kine.EncodeKey(kine.GapPrefix))
	message.Header.Set(operationHeader, operationDelete)
	return message
}
