// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

var _ storage.Mover = (*driver)(nil)

// write stores a value. The caller holds the lock.
func (s *Store) write(key, value string) {
	if s.data == nil {
		s.data = map[string]string{}
	}
	s.data[key] = value
	s.revision++
}

// keys are those of a schema, sorted. The caller holds the lock.
func (s *Store) keys(schema string) []string {
	var out []string
	for key := range s.data {
		if strings.HasPrefix(key, "/"+schema+"/") {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

// Position implements storage.Mover.
func (d *driver) Position(context.Context, storage.Tenant) (storage.Position, error) {
	s := d.store
	s.mu.Lock()
	defer s.mu.Unlock()
	return storage.Position{Store: fmt.Sprintf("%p", s), Revision: s.revision}, s.down
}

// Raise implements storage.Mover.
func (d *driver) Raise(_ context.Context, _ storage.Tenant, to int64) error {
	s := d.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision = max(s.revision, to)
	return s.down
}

// Freeze implements storage.Mover.
func (d *driver) Freeze(_ context.Context, tenant storage.Tenant, token string) (string, error) {
	s := d.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return "", s.down
	}
	if s.schemas[tenant.Schema] != tenant.Owner || s.users[tenant.User] != tenant.Owner {
		return "", storage.Errorf(storage.ReasonTaken, "schema %s and user %s are not those of %s", tenant.Schema, tenant.User, tenant.Owner)
	}
	if s.frozen == nil {
		s.frozen = map[string]string{}
	}
	s.frozen[tenant.Schema] = token
	seal := ""
	for _, key := range s.keys(tenant.Schema) {
		seal += fmt.Sprintf("%q=%q ", key, s.data[key])
	}
	return seal, nil
}

// Page implements storage.Mover.
func (d *driver) Page(_ context.Context, tenant storage.Tenant, after string, limit int) (storage.Page, error) {
	s := d.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return storage.Page{}, s.down
	}
	page, prefix := storage.Page{Last: after}, "/"+tenant.Schema+"/"
	for _, key := range s.keys(tenant.Schema) {
		name := strings.TrimPrefix(key, prefix)
		switch {
		case name <= after:
		case len(page.Entries) == limit:
			page.More = true
		default:
			page.Entries, page.Last = append(page.Entries, storage.Entry{Key: name, Value: []byte(s.data[key])}), name
		}
	}
	return page, nil
}

// Import implements storage.Mover.
func (d *driver) Import(_ context.Context, tenant storage.Tenant, token string, entries []storage.Entry) error {
	s := d.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if held, frozen := s.frozen[tenant.Schema]; s.down == nil && (!frozen || held != token) {
		return storage.Errorf(storage.ReasonPermissionDenied, "schema %s is not held for this migration any more", tenant.Schema)
	}
	for _, entry := range entries {
		s.write("/"+tenant.Schema+"/"+entry.Key, string(entry.Value))
	}
	return s.down
}
