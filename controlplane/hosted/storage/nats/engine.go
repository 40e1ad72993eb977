// SPDX-License-Identifier: Apache-2.0

package nats

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/nats-io/jwt/v2"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

// heldPrefix precedes, in a tag, the attempt that an account is held for. Tags are
// in lower case, so it is a hash of the token.
const heldPrefix = "held:"

// attempt is what a token is called in an account.
func attempt(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:16])
}

// holder is the attempt that an account is held for, empty when its tenant may write.
func holder(claims *jwt.AccountClaims) string {
	for _, tag := range claims.Tags {
		if held, ok := strings.CutPrefix(tag, heldPrefix); ok {
			return held
		}
	}
	return ""
}

// secret follows from the operator's key, whoever has which may sign accounts
// anyway, so there is nothing to keep. It is another one for each attempt, and for
// an account that nobody holds.
func (d *driver) secret(purpose, schema, held string) ([]byte, error) {
	seed, err := d.operator.Seed()
	if err != nil {
		return nil, err
	}
	sum := hmac.New(sha256.New, seed)
	// Schemas have no slash.
	sum.Write([]byte("kamaji.clastix.io/" + purpose + "/" + schema + "/" + held))
	return sum.Sum(nil), nil
}

// engineKey is the key with which the engine enters an account.
func (d *driver) engineKey(schema, held string) (nkeys.KeyPair, string, error) {
	hash, err := d.secret("engine", schema, held)
	if err != nil {
		return nil, "", err
	}
	raw, err := nkeys.EncodeSeed(nkeys.PrefixByteAccount, hash)
	if err != nil {
		return nil, "", err
	}
	key, err := nkeys.FromSeed(raw)
	if err != nil {
		return nil, "", err
	}
	public, err := key.PublicKey()
	return key, public, err
}

// entrance is what the subjects of the engine's writes begin with. While an account
// is held those of the bucket lead nowhere, and others, which the tenant can't
// guess, lead to them: servers send an answer to whatever subject a request names.
func (d *driver) entrance(tenant storage.Tenant, held string) (string, error) {
	if held == "" {
		return bucketPrefix(tenant), nil
	}
	hash, err := d.secret("entrance", tenant.Schema, held)
	return "kamaji." + hex.EncodeToString(hash) + ".", err
}

// everything is what the engine may do in an account. A token that says what its
// user may do is not subject to what the account says of all others.
func everything() jwt.Permissions {
	return jwt.Permissions{Pub: jwt.Permission{Allow: jwt.StringList{">"}}, Sub: jwt.Permission{Allow: jwt.StringList{">"}}}
}

// permit leaves the engine's key in an account as the only one that is not the tenant's.
func (d *driver) permit(claims *jwt.AccountClaims, tenant storage.Tenant, keys []string, held string) error {
	_, mine, err := d.engineKey(tenant.Schema, held)
	if err != nil {
		return d.explain(err, "making the engine's key for schema "+tenant.Schema)
	}
	claims.SigningKeys = jwt.SigningKeys{}
	claims.SigningKeys.Add(keys...)
	claims.SigningKeys.Add(mine)
	return nil
}

// keysOf are those of an account that are not the engine's.
func (d *driver) keysOf(claims *jwt.AccountClaims, tenant storage.Tenant) []string {
	_, mine, err := d.engineKey(tenant.Schema, holder(claims))
	var out []string
	for _, key := range claims.SigningKeys.Keys() {
		if err != nil || key != mine {
			out = append(out, key)
		}
	}
	return out
}

// as connects to a tenant's account with a token that the engine signs for itself.
func (d *driver) as(ctx context.Context, tenant storage.Tenant, held string, permissions jwt.Permissions) (*client.Conn, error) {
	key, _, err := d.engineKey(tenant.Schema, held)
	if err != nil {
		return nil, err
	}
	file, err := loginBy(key, tenant, "kamaji", permissions)
	if err != nil {
		return nil, err
	}
	certificate, private, err := d.certificate(tenant)
	if err != nil {
		return nil, err
	}
	return d.enter(ctx, file, certificate, private)
}

// found returns the account of a tenant, nil if there is none, and sees to it that
// the engine can enter. An account that is another's has nothing of the tenant's.
func (d *driver) found(ctx context.Context, tenant storage.Tenant) (*jwt.AccountClaims, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	lock := d.alone(tenant)
	lock.Lock()
	defer lock.Unlock()
	have, err := d.look(ctx, tenant)
	if err != nil || have == nil || have.Description == released || d.taken(have, tenant) != nil {
		return nil, err
	}
	_, mine, err := d.engineKey(tenant.Schema, holder(have))
	if err != nil {
		return nil, d.explain(err, "making the engine's key for schema "+tenant.Schema)
	}
	if _, known := have.SigningKeys[mine]; known {
		return have, nil
	}
	have.SigningKeys.Add(mine)
	return have, d.push(ctx, have)
}

// inside runs work in the account of a tenant, if there is one.
func (d *driver) inside(ctx context.Context, tenant storage.Tenant, doing string, work func(*jwt.AccountClaims, jetstream.JetStream) error) error {
	have, err := d.found(ctx, tenant)
	if err != nil || have == nil {
		return err
	}
	nc, err := d.as(ctx, tenant, holder(have), everything())
	if err != nil {
		return d.explain(err, doing)
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(callTimeout))
	if err != nil {
		return d.explain(err, doing)
	}
	if err := work(have, js); err != nil {
		return d.explain(err, doing)
	}
	return nil
}
