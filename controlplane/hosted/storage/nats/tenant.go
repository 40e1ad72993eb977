// SPDX-License-Identifier: Apache-2.0

package nats

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

const (
	// schemaLimit is how long a bucket's name may be: with its prefix it names a folder.
	schemaLimit = 200
	// history is how many revisions of a key there are. With bucketDescription it must
	// be what kine wants, which accepts a bucket only if it is as kine would make it.
	history           = 10
	bucketDescription = "Holds kine key/values"
	// settleEvery is the pause between attempts while servers take over an account,
	// settleFor how long they are given.
	settleEvery = 200 * time.Millisecond
	settleFor   = 5 * time.Second
)

// alone lets one caller at a time work on a schema.
func (d *driver) alone(tenant storage.Tenant) *sync.Mutex {
	h := fnv.New32a()
	// A hash never fails.
	_, _ = h.Write([]byte(tenant.Schema))
	return &d.writing[h.Sum32()%locks]
}

// look returns the account of a schema, nil if there is none.
func (d *driver) look(ctx context.Context, tenant storage.Tenant) (*jwt.AccountClaims, error) {
	doing := "reading the account of schema " + tenant.Schema
	// A server that doesn't have it answers with nothing; another one may.
	raw, err := d.ask(ctx, fmt.Sprintf(subjectLookup, account(tenant.Schema)), nil, func(a []byte) bool { return len(a) > 0 })
	if err != nil {
		return nil, d.explain(err, doing)
	}
	token := raw[len(raw)-1]
	if len(token) == 0 {
		return nil, nil
	}
	claims, err := jwt.DecodeAccountClaims(string(token))
	if err != nil {
		return nil, d.explain(err, doing)
	}
	return claims, nil
}

// EnsureTenant implements storage.Driver. For a tenant that is complete it costs
// two reads and one login.
func (d *driver) EnsureTenant(ctx context.Context, tenant storage.Tenant, credentials storage.Credentials) error {
	if err := d.admissible(tenant); err != nil {
		return err
	}
	key, err := signer(tenant, credentials.Login)
	if err != nil {
		return storage.Errorf(storage.ReasonInvalid, "the login of user %s is none: %v", tenant.User, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := d.ensureAccount(ctx, tenant, key); err != nil {
		return err
	}
	return d.ensureBucket(ctx, tenant, credentials)
}

// ensureAccount leaves an account that is the tenant's, and that its token opens.
func (d *driver) ensureAccount(ctx context.Context, tenant storage.Tenant, key string) error {
	lock := d.alone(tenant)
	lock.Lock()
	defer lock.Unlock()
	have, err := d.look(ctx, tenant)
	if err != nil {
		return err
	}
	if err := d.taken(have, tenant); err != nil {
		return err
	}
	want, err := d.wanted(have, tenant, key, time.Now())
	switch {
	case err != nil:
		return err
	case have != nil && holder(have) != "":
		return d.release(ctx, tenant, have, want)
	case d.equal(have, want):
		return nil
	}
	return d.push(ctx, want)
}

// ensureBucket logs in as the tenant, which alone shows that its login is good,
// and makes the bucket as kine would: here somebody reads why it can't be.
func (d *driver) ensureBucket(ctx context.Context, tenant storage.Tenant, credentials storage.Credentials) error {
	nc, err := d.enter(ctx, credentials.Login, credentials.Certificate, credentials.Key)
	if err != nil {
		return d.explain(err, fmt.Sprintf("logging in to the account of schema %s as user %s, as the tenant will", tenant.Schema, tenant.User))
	}
	defer nc.Close()
	err = settled(ctx, func() error { return d.bucket(ctx, nc, tenant) })
	if err != nil {
		return d.explain(err, "setting up bucket "+tenant.Schema)
	}
	return nil
}

// bucket makes the bucket, or changes how many servers it is on.
func (d *driver) bucket(ctx context.Context, nc *client.Conn, tenant storage.Tenant) error {
	replicas := d.config.NATS.Replicas
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	s, err := js.Stream(ctx, stream(tenant))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = js.CreateKeyValue(ctx, d.asKineMakes(tenant))
		return err
	}
	if err != nil || s.CachedInfo().Config.Replicas == replicas {
		return err
	}
	config := s.CachedInfo().Config
	config.Replicas = replicas
	_, err = js.UpdateStream(ctx, config)
	return err
}

// asKineMakes is what kine asks for.
func (d *driver) asKineMakes(tenant storage.Tenant) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{Bucket: tenant.Schema, Description: bucketDescription, History: history, Replicas: d.config.NATS.Replicas}
}

// enter connects with a login.
func (d *driver) enter(ctx context.Context, file, certificate, key []byte) (*client.Conn, error) {
	options, err := d.options(file, certificate, key)
	if err != nil {
		return nil, err
	}
	var nc *client.Conn
	err = settled(ctx, func() error {
		var err error
		nc, err = client.Connect(d.addresses(), options...)
		return err
	})
	return nc, err
}

// settled repeats what a server refuses that has not heard of the account's last
// change, for a while: servers hear of it one after the other.
func settled(ctx context.Context, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	for {
		err := do()
		if err == nil || !denied(err) && !crowded(err) && !errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(settleEvery):
		}
	}
}

// DeleteTenant implements storage.Driver. The account loses all keys but our own
// first: with that the tenant is out, and so is who holds it for a move.
func (d *driver) DeleteTenant(ctx context.Context, tenant storage.Tenant) error {
	if err := d.admissible(tenant); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, deleteTimeout)
	defer cancel()
	lock := d.alone(tenant)
	lock.Lock()
	defer lock.Unlock()
	first, done := context.WithTimeout(ctx, callTimeout)
	defer done()
	have, err := d.look(first, tenant)
	if err != nil || have == nil || d.taken(have, tenant) != nil {
		return err
	}
	if have.Description != released {
		if err := d.empty(ctx, tenant); err != nil {
			return err
		}
	}
	_, err = d.forget(ctx, account(tenant.Schema))
	return err
}

// empty deletes all that is in an account, and leaves it to nobody.
func (d *driver) empty(ctx context.Context, tenant storage.Tenant) error {
	doing := "emptying the account of schema " + tenant.Schema
	claims := d.blank(tenant)
	if err := d.permit(claims, tenant, nil, ""); err != nil {
		return err
	}
	if err := d.push(ctx, claims); err != nil {
		return err
	}
	nc, err := d.as(ctx, tenant, "", everything())
	if err != nil {
		return d.explain(err, doing)
	}
	defer nc.Close()
	if err := settled(ctx, func() error { return deleteStreams(ctx, nc) }); err != nil {
		return d.explain(err, doing)
	}
	nothing := jwt.NewAccountClaims(account(tenant.Schema))
	nothing.Name, nothing.Description = tenant.Schema, released
	nothing.Limits.AccountLimits = jwt.AccountLimits{DisallowBearer: true}
	return d.push(ctx, nothing)
}

// deleteStreams deletes all of an account: a tenant may have put another one in the
// place of its bucket.
func deleteStreams(ctx context.Context, nc *client.Conn) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		if err := js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
	}
	return names.Err()
}

// certificate is what the engine shows a server that wants one, besides a login.
func (d *driver) certificate(tenant storage.Tenant) (certificate, key []byte, err error) {
	if d.issuer == nil {
		return d.config.Certificate, d.config.Key, nil
	}
	mine, err := d.issuer.Renew(tenant, storage.Credentials{}, time.Now())
	return mine.Certificate, mine.Key, err
}
