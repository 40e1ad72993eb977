// SPDX-License-Identifier: Apache-2.0

package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/kine"
)

// moveTimeout bounds one step of a copy: a page is read or written, or a table counted.
const moveTimeout = 60 * time.Second

var _ storage.Mover = (*store)(nil)

// Position implements storage.Mover. A random name is kept beside the owners: what
// servers call themselves differs between members of one cluster.
func (s *store) Position(ctx context.Context, tenant storage.Tenant) (storage.Position, error) {
	if err := s.admissible(tenant); err != nil {
		return storage.Position{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	const doing = "reading the name of the store"
	name := quoted(registry) + ".store"
	var at storage.Position
	err := s.db.QueryRowContext(ctx, "SELECT name FROM "+name+" WHERE id = 1").Scan(&at.Store)
	if n := number(err); n == errNoDatabase || n == errNoTable || errors.Is(err, sql.ErrNoRows) {
		err = s.do(ctx, doing, "CREATE DATABASE IF NOT EXISTS "+quoted(registry),
			"CREATE TABLE IF NOT EXISTS "+name+" (id TINYINT NOT NULL PRIMARY KEY, name CHAR(36) NOT NULL)",
			"INSERT IGNORE INTO "+name+" (id, name) VALUES (1, '"+string(uuid.NewUUID())+"')")
		if err != nil {
			return at, err
		}
		err = s.db.QueryRowContext(ctx, "SELECT name FROM "+name+" WHERE id = 1").Scan(&at.Store)
	}
	if err != nil {
		return at, s.explain(err, doing)
	}
	there, err := s.lookAtTable(ctx, tenant)
	if err != nil || !there {
		return at, err
	}
	if err := s.db.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM "+tableOf(tenant)).Scan(&at.Revision); err != nil {
		return at, s.explain(err, "reading the revision of schema "+tenant.Schema)
	}
	return at, nil
}

// Raise implements storage.Mover. The numbers in between are left out, and what is
// older counts as compacted.
func (s *store) Raise(ctx context.Context, tenant storage.Tenant, to int64) error {
	if err := s.admissible(tenant); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.ensureTable(ctx, tenant); err != nil {
		return err
	}
	table := tableOf(tenant)
	return s.transaction(ctx, fmt.Sprintf("raising the revision of schema %s to %d", tenant.Schema, to), func(tx *sql.Tx) error {
		var at int64
		var compacted sql.NullInt64
		err := tx.QueryRowContext(ctx, "SELECT coalesce(max(id), 0), max(CASE WHEN name = ? THEN id END) FROM "+table, kine.CompactKey).Scan(&at, &compacted)
		if err != nil || at >= to {
			return err
		}
		mark, args := "UPDATE "+table+" SET prev_revision = greatest(prev_revision, ?) WHERE name = ?", []any{to, kine.CompactKey}
		if !compacted.Valid {
			mark = "INSERT INTO " + table + " (prev_revision, name, created, deleted, create_revision, lease, value) VALUES (?, ?, 1, 0, 0, 0, '')"
		}
		if _, err := tx.ExecContext(ctx, mark, args...); err != nil {
			return err
		}
		// The counter follows the highest id.
		_, err = tx.ExecContext(ctx, "INSERT INTO "+table+" (id, name, created, deleted, create_revision, prev_revision, lease) VALUES (?, ?, 0, 1, 0, 0, 0)", to, kine.Gap(to))
		return err
	})
}

// Page implements storage.Mover. There is nothing in a schema that does not exist.
func (s *store) Page(ctx context.Context, tenant storage.Tenant, after string, limit int) (storage.Page, error) {
	if err := s.admissible(tenant); err != nil {
		return storage.Page{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	there, err := s.lookAtTable(ctx, tenant)
	if err != nil {
		return storage.Page{}, err
	}
	if !there {
		return storage.Page{Last: after}, nil
	}
	rows, err := page(ctx, s.db, tableOf(tenant), after, limit)
	if err != nil {
		return storage.Page{}, s.explain(err, "reading the keys of schema "+tenant.Schema)
	}
	return kine.Page(rows, after, limit), nil
}

// Import implements storage.Mover. The row with the token stays locked until the
// keys are written; giving the rights back begins by deleting it.
func (s *store) Import(ctx context.Context, tenant storage.Tenant, token string, entries []storage.Entry) error {
	if err := s.admissible(tenant); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	released := storage.Errorf(storage.ReasonPermissionDenied, "schema %s in DataStore %s is not held for this migration any more", tenant.Schema, s.config.Name)
	if there, err := s.lookAtTable(ctx, tenant); err != nil {
		return err
	} else if !there {
		return released
	}
	return s.transaction(ctx, "writing the keys of schema "+tenant.Schema, func(tx *sql.Tx) error {
		var held string
		err := tx.QueryRowContext(ctx, "SELECT token FROM "+frozenTable+" WHERE name = ? LOCK IN SHARE MODE", tenant.Schema).Scan(&held)
		n := number(err)
		switch {
		case errors.Is(err, sql.ErrNoRows), n == errNoTable, n == errNoDatabase, err == nil && held != token:
			return released
		case err != nil:
			return err
		}
		return write(ctx, tx, tableOf(tenant), kine.Rows(entries))
	})
}
