// SPDX-License-Identifier: Apache-2.0

package nats

import (
	"crypto/sha256"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

const (
	// ownerPrefix precedes the owner in the description of an account.
	ownerPrefix = "TenantControlPlane "
	// released is the description of an account that nobody owns and nothing is in. A
	// server that was down when it was deleted brings it back to the others.
	released = "released"
	// retirePrefix precedes, in a tag, the second since 1970 when former keys end.
	retirePrefix = "retire:"
	// overlap is how long former credentials are good beside new ones. A server closes
	// connections as soon as their key is gone. By then pods were replaced, or at
	// least have the new file, which takes a kubelet up to two minutes.
	overlap = 5 * time.Minute
	// connections is how many a tenant may hold: each replica has one.
	connections = 64
)

// account is the name of a schema's account. It has the form of a public key, for
// which there is no private one.
func account(schema string) string {
	sum := sha256.Sum256([]byte("kamaji.clastix.io/account/" + schema))
	// It fails for unknown prefixes alone.
	name, _ := nkeys.Encode(nkeys.PrefixByteAccount, sum[:])
	return string(name)
}

// blank is an account without users: a bucket, and neither imports nor exports,
// which are the ways to others.
func (d *driver) blank(tenant storage.Tenant) *jwt.AccountClaims {
	out := jwt.NewAccountClaims(account(tenant.Schema))
	out.Name, out.Description = tenant.Schema, ownerPrefix+tenant.Owner
	out.Limits.AccountLimits = jwt.AccountLimits{DisallowBearer: true, Conn: connections}
	limits := jwt.JetStreamLimits{DiskStorage: jwt.NoLimit, Streams: 1, Consumer: jwt.NoLimit}
	if quota := d.config.NATS.TenantStorage; quota > 0 {
		// Servers count all replicas.
		limits.DiskStorage = quota * int64(d.config.NATS.Replicas)
	}
	out.Limits.JetStreamLimits = limits
	return out
}

// wanted is the account of a tenant whose token was signed by a key, given what
// there is, which may be nil. Other keys are kept for a while when they are those
// of former credentials.
func (d *driver) wanted(have *jwt.AccountClaims, tenant storage.Tenant, key string, now time.Time) (*jwt.AccountClaims, error) {
	out, keys := d.blank(tenant), []string{key}
	var former []string
	if have != nil {
		former = d.keysOf(have, tenant)
	}
	if len(former) > 0 {
		until, retiring := retire(have)
		if !slices.Contains(former, key) {
			until, retiring = now.Add(overlap), true
		}
		former = slices.DeleteFunc(former, func(k string) bool { return k == key })
		if retiring && now.Before(until) && len(former) > 0 {
			keys = append(keys, former...)
			out.Tags.Add(retirePrefix + strconv.FormatInt(until.Unix(), 10))
		}
	}
	return out, d.permit(out, tenant, keys, "")
}

// retire reads when former keys of an account end, if there are any.
func retire(claims *jwt.AccountClaims) (time.Time, bool) {
	for _, tag := range claims.Tags {
		if text, ok := strings.CutPrefix(tag, retirePrefix); ok {
			seconds, err := strconv.ParseInt(text, 10, 64)
			return time.Unix(seconds, 0), err == nil
		}
	}
	return time.Time{}, false
}

// equal compares what two accounts say, and who has signed the first.
func (d *driver) equal(have, want *jwt.AccountClaims) bool {
	if have == nil || have.Issuer != d.public {
		return false
	}
	a, b := *have, *want
	a.Issuer, a.IssuedAt, a.ID, a.Audience, a.Type, a.Version = b.Issuer, b.IssuedAt, b.ID, b.Audience, b.Type, b.Version
	return equality.Semantic.DeepEqual(a, b)
}

// taken fails for an account that is somebody else's. One without a record of its
// owner is nobody's: its name can't come about elsewhere.
func (d *driver) taken(have *jwt.AccountClaims, tenant storage.Tenant) error {
	if have == nil {
		return nil
	}
	owner, recorded := strings.CutPrefix(have.Description, ownerPrefix)
	if !recorded || owner == tenant.Owner {
		return nil
	}
	return storage.Errorf(storage.ReasonTaken, "schema %s in DataStore %s belongs to TenantControlPlane %s; give %s another schema",
		tenant.Schema, d.config.Name, owner, tenant.Owner)
}

// admissible refuses the names that no tenant may have here.
func (d *driver) admissible(tenant storage.Tenant) error {
	if err := tenant.Validate(); err != nil {
		return err
	}
	switch {
	case strings.Contains(tenant.Schema, "."):
		return storage.Errorf(storage.ReasonInvalid, "schema %q must not have a dot: it is the name of a bucket of NATS", tenant.Schema)
	case len(tenant.Schema) > schemaLimit:
		return storage.Errorf(storage.ReasonInvalid, "schema %q has %d characters, NATS takes %d", tenant.Schema, len(tenant.Schema), schemaLimit)
	}
	return nil
}

// stream is the name that JetStream knows a bucket by, and bucketPrefix what the
// subjects of its messages begin with.
func stream(tenant storage.Tenant) string { return "KV_" + tenant.Schema }

func bucketPrefix(tenant storage.Tenant) string { return "$KV." + tenant.Schema + "." }
