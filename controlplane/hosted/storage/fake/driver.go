// SPDX-License-Identifier: Apache-2.0

// Package fake is a storage.Driver in memory, for tests of what uses drivers.
// It passes the same contract suite as the real ones.
package fake

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

// validity of the credentials handed out, which are renewed in the last third.
const validity = 365 * 24 * time.Hour

// Store is the database that fake drivers talk to. The zero value is empty and
// reachable.
type Store struct {
	mu sync.Mutex
	// down is what every call fails with, when set.
	down error
	// schemas and users map names to the owner who claimed them.
	schemas, users map[string]string
	// grants maps a user to the schema it may use.
	grants map[string]string
	data   map[string]string
	// frozen maps schemas that may only be read to the token of the attempt.
	frozen map[string]string
	// revision counts the writes.
	revision int64
}

// Open returns a driver for the store, in the form that storage.Openers wants.
func (s *Store) Open(storage.Config) (storage.Driver, error) { return &driver{store: s}, nil }

// Break makes every following call fail with err; nil repairs the store.
func (s *Store) Break(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = err
}

// Tenants returns the number of schemas that are claimed.
func (s *Store) Tenants() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.schemas)
}

// Revoke takes the user's right to its schema away, as an administrator's
// mistake would.
func (s *Store) Revoke(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.grants, user)
}

// Put writes a key as the user whose credentials these are.
func (s *Store) Put(_ storage.Tenant, credentials storage.Credentials, key, value string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.allowed(credentials, key); err != nil {
		return err
	}
	for schema := range s.frozen {
		if strings.HasPrefix(key, "/"+schema+"/") {
			return storage.Errorf(storage.ReasonPermissionDenied, "schema %s is frozen", schema)
		}
	}
	s.write(key, value)
	return nil
}

// Value reads a key as the user whose credentials these are.
func (s *Store) Value(_ storage.Tenant, credentials storage.Credentials, key string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.allowed(credentials, key); err != nil {
		return "", err
	}
	return s.data[key], nil
}

// Keys counts the keys under a prefix, as an administrator.
func (s *Store) Keys(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for key := range s.data {
		if strings.HasPrefix(key, prefix) {
			n++
		}
	}
	return n
}

func (s *Store) allowed(credentials storage.Credentials, key string) error {
	user, _, _ := strings.Cut(string(credentials.Certificate), "|")
	schema, granted := s.grants[user]
	if !granted || !strings.HasPrefix(key, "/"+schema+"/") {
		return storage.Errorf(storage.ReasonPermissionDenied, "user %q may not touch %q", user, key)
	}
	return nil
}

type driver struct{ store *Store }

var _ storage.Driver = (*driver)(nil)

// Probe implements storage.Driver.
func (d *driver) Probe(context.Context) error {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	return d.store.down
}

// EnsureTenant implements storage.Driver.
func (d *driver) EnsureTenant(_ context.Context, tenant storage.Tenant, _ storage.Credentials) error {
	if err := tenant.Validate(); err != nil {
		return err
	}
	s := d.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return s.down
	}
	if s.schemas == nil {
		s.schemas, s.users, s.grants = map[string]string{}, map[string]string{}, map[string]string{}
	}
	for _, claimed := range []string{s.schemas[tenant.Schema], s.users[tenant.User]} {
		if claimed != "" && claimed != tenant.Owner {
			return storage.Errorf(storage.ReasonTaken, "schema %s or user %s is taken by %s", tenant.Schema, tenant.User, claimed)
		}
	}
	s.schemas[tenant.Schema], s.users[tenant.User] = tenant.Owner, tenant.Owner
	s.grants[tenant.User] = tenant.Schema
	delete(s.frozen, tenant.Schema)
	return nil
}

// DeleteTenant implements storage.Driver.
func (d *driver) DeleteTenant(_ context.Context, tenant storage.Tenant) error {
	if err := tenant.Validate(); err != nil {
		return err
	}
	s := d.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return s.down
	}
	if s.users[tenant.User] == tenant.Owner {
		delete(s.users, tenant.User)
		delete(s.grants, tenant.User)
	}
	if s.schemas[tenant.Schema] != tenant.Owner {
		return nil
	}
	for key := range s.data {
		if strings.HasPrefix(key, "/"+tenant.Schema+"/") {
			delete(s.data, key)
		}
	}
	delete(s.schemas, tenant.Schema)
	delete(s.frozen, tenant.Schema)
	return nil
}

// Credentials implements storage.Driver. The "certificate" is the user's name
// and the date of issue.
func (d *driver) Credentials(tenant storage.Tenant, current storage.Credentials, now time.Time) (storage.Credentials, error) {
	if err := tenant.Validate(); err != nil {
		return storage.Credentials{}, err
	}
	user, issued, _ := strings.Cut(string(current.Certificate), "|")
	if at, err := time.Parse(time.RFC3339, issued); err == nil && user == tenant.User && now.Sub(at) < validity*2/3 {
		return current, nil
	}
	return storage.Credentials{
		CA:          []byte("fake CA"),
		Certificate: []byte(tenant.User + "|" + now.UTC().Format(time.RFC3339)),
		Key:         []byte("fake key"),
	}, nil
}

// Endpoint implements storage.Driver: there is no shim.
func (d *driver) Endpoint(storage.Tenant, storage.Credentials) string { return "" }

// Close implements storage.Driver.
func (d *driver) Close() error { return nil }
