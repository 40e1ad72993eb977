// SPDX-License-Identifier: Apache-2.0

// Package storage is the seam between the engine and the databases that hold
// tenants' state. A Driver gives every tenant an identity that can reach its
// own data and nothing else; which database does that is the driver's affair.
//
// storage/etcd, postgres, mysql and nats are drivers, storage/fake is the one for
// tests, and storagetest the contract that all of them pass.
package storage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Driver administrates one DataStore. Implementations are safe for concurrent
// use and bound every call in time themselves, so that a lost store costs a
// caller seconds rather than its whole reconcile. Every error is an *Error.
type Driver interface {
	// Probe dials the store, authenticates as administrator and checks that
	// tenants are kept apart. It returns nil only if all of that holds.
	Probe(ctx context.Context) error

	// EnsureTenant makes the tenant's user, who authenticates with these
	// credentials, and its right to its own data, and nothing wider. It repairs
	// whatever part is missing, in whatever order the parts were lost, and fails
	// with ReasonTaken when the schema or the user belongs to another owner.
	// For a tenant that is complete it only reads.
	EnsureTenant(ctx context.Context, tenant Tenant, credentials Credentials) error

	// DeleteTenant removes the tenant's data, rights and user. It succeeds
	// when there is nothing left, and leaves what another owner holds alone.
	DeleteTenant(ctx context.Context, tenant Tenant) error

	// Credentials returns what the tenant's processes authenticate with. It
	// returns current unchanged while that is complete and not yet due for
	// renewal at now. It does not talk to the store, so what it returns works
	// only after EnsureTenant.
	Credentials(tenant Tenant, current Credentials, now time.Time) (Credentials, error)

	// Endpoint is the connection string with which kine, the shim for stores that
	// don't speak the protocol of etcd, reaches the tenant's data. It is empty for
	// stores that do, and holds the password for the others.
	Endpoint(tenant Tenant, credentials Credentials) string

	// Close releases connections. The driver is unusable afterwards.
	Close() error
}

// Tenant names one tenant's share of a DataStore.
type Tenant struct {
	// Owner is the namespace/name of the TenantControlPlane. It is recorded in
	// the store, so that no other tenant can claim the same schema or user.
	Owner string
	// Schema is the key prefix (etcd) or database name (the others).
	Schema string
	// User is the identity the tenant's processes authenticate as.
	User string
}

// Credentials is what a tenant's processes need to reach their data. It prints
// without what is secret in it.
type Credentials struct {
	// CA (PEM) verifies the store's serving certificates. It is empty for a store
	// without TLS.
	CA []byte
	// Certificate and Key (PEM) are the tenant's own client certificate, empty for
	// a DataStore without the private key of its authority.
	Certificate, Key []byte
	// Password of the tenant's user: letters and digits, empty where a certificate
	// or Login takes its place.
	Password string
	// Login is the credentials file of NATS: the user's token, and the seed of the
	// key that it is for. It is empty for all other stores.
	Login []byte
}

// KineFiles is the folder in which kine finds the files of a tenant, and LoginFile
// the one with Credentials.Login: strings of a Driver's Endpoint name them.
const (
	KineFiles = "/etc/kine"
	LoginFile = "user.creds"
)

// String tells which parts there are.
func (c Credentials) String() string {
	return fmt.Sprintf("credentials(CA: %t, certificate: %t, password: %t, login: %t)", len(c.CA) > 0, len(c.Certificate) > 0, c.Password != "", len(c.Login) > 0)
}

// GoString is String.
func (c Credentials) GoString() string { return c.String() }

// NewPassword returns 32 random letters and digits: they need no quoting in
// connection strings, and hold 190 bits.
func NewPassword() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	out := make([]byte, 0, 32)
	for len(out) < cap(out) {
		var random [64]byte
		// It never fails: without randomness the process ends.
		_, _ = rand.Read(random[:])
		for _, b := range random {
			// The highest eight of 256 values would make some letters likelier.
			if b < 4*62 && len(out) < cap(out) {
				out = append(out, alphabet[b%62])
			}
		}
	}
	return string(out)
}

// Config is a DataStore with all its references resolved.
type Config struct {
	// Name of the DataStore, for messages.
	Name string
	// Driver as in DataStore.spec.driver.
	Driver string
	// Endpoints are host:port pairs, all members of one store.
	Endpoints []string
	// CA and CAKey (PEM) verify servers and sign the tenants' certificates.
	CA, CAKey []byte
	// Certificate and Key (PEM) are the administrator's client certificate.
	Certificate, Key []byte
	// Username and Password authenticate the administrator where the store
	// takes no certificates.
	Username, Password string
	// NATS is what only that driver needs, nil for the others.
	NATS *NATS
	// EnableAuth allows the driver to switch access control on in a store that
	// has it off.
	EnableAuth bool
}

// NATS is how a server in operator mode is administrated, and what tenants get there.
type NATS struct {
	// OperatorSeed signs accounts, SystemCredentials (a credentials file) is a user
	// of the system account.
	OperatorSeed, SystemCredentials []byte
	// Replicas is on how many servers the data of a tenant is.
	Replicas int
	// TenantStorage is how many bytes it may take on each of them, 0 for any number.
	TenantStorage int64
}

// Hash identifies the content of the configuration. Two configurations with
// the same hash can share a connection.
func (c Config) Hash() string {
	sum := sha256.New()
	part := func(b []byte) {
		// Lengths are written first, so that moving a byte from one field to
		// the next changes the hash.
		fmt.Fprintf(sum, "%d:", len(b))
		sum.Write(b)
	}
	part([]byte(c.Driver))
	part([]byte(strconv.Itoa(len(c.Endpoints))))
	for _, e := range c.Endpoints {
		part([]byte(e))
	}
	for _, b := range [][]byte{c.CA, c.CAKey, c.Certificate, c.Key} {
		part(b)
	}
	part([]byte(c.Username))
	part([]byte(c.Password))
	part([]byte(strconv.FormatBool(c.EnableAuth)))
	if n := c.NATS; n != nil {
		part(n.OperatorSeed)
		part(n.SystemCredentials)
		part([]byte(strconv.Itoa(n.Replicas)))
		part([]byte(strconv.FormatInt(n.TenantStorage, 10)))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// Names become etcd key prefixes and SQL identifiers, and end up in connection
// strings. A slash would let one tenant's prefix contain another's.
var validName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?$`)

// The administrator's own names, in every supported store. A tenant that was
// given one of them would receive a certificate for the administrator.
var reservedNames = map[string]bool{"root": true, "postgres": true, "mysql": true, "guest": true}

// Validate reports a schema or user that no driver may be asked for.
func (t Tenant) Validate() error {
	for _, f := range []struct{ field, value string }{{"schema", t.Schema}, {"user", t.User}} {
		switch {
		case !validName.MatchString(f.value):
			return Errorf(ReasonInvalid, "%s %q must be 1 to 253 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit", f.field, f.value)
		case reservedNames[f.value]:
			return Errorf(ReasonInvalid, "%s %q is reserved for the administrator of the store", f.field, f.value)
		}
	}
	if t.Owner == "" {
		return Errorf(ReasonInvalid, "the owner of schema %q is empty", t.Schema)
	}
	return nil
}
