// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/kine"
)

const (
	// moveTimeout bounds one step of a copy: a page is read or written, or a table counted.
	moveTimeout = 60 * time.Second
	// lockPatience is how long a freeze waits for the tenant's transactions, before
	// it ends them.
	lockPatience = time.Second
	// frozenMark separates, in the comment on a database, the owner from the token
	// of the attempt that holds it. Names of owners hold no space.
	frozenMark = " frozen: "
)

var _ storage.Mover = (*driver)(nil)

// Position implements storage.Mover. A database keeps its number until it is
// dropped, and a copy of a server has other databases from then on.
func (d *driver) Position(ctx context.Context, tenant storage.Tenant) (storage.Position, error) {
	if err := d.admissible(tenant); err != nil {
		return storage.Position{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var system string
	var database uint32
	var open bool
	err := d.pool.QueryRow(ctx, `
SELECT (SELECT system_identifier::text FROM pg_catalog.pg_control_system()), coalesce(max(oid::bigint), 0), coalesce(bool_or(datallowconn), false)
FROM pg_catalog.pg_database WHERE datname = $1`, tenant.Schema).Scan(&system, &database, &open)
	if err != nil {
		return storage.Position{}, d.explain(err, "reading the name of the store")
	}
	at := storage.Position{Store: fmt.Sprintf("%s/%d", system, database)}
	if !open {
		return at, nil
	}
	err = d.inside(ctx, tenant.Schema, "reading the revision of schema "+tenant.Schema, func(conn *pgx.Conn) error {
		t, err := lookAtTable(ctx, conn)
		if err != nil || !t.exists {
			return err
		}
		if !t.readable {
			return d.unusual(tenant)
		}
		at.Revision, err = revision(ctx, conn)
		return err
	})
	return at, err
}

func revision(ctx context.Context, q querier) (at int64, err error) {
	err = q.QueryRow(ctx, `SELECT coalesce(max(id), 0) FROM public.kine`).Scan(&at)
	return at, err
}

// Raise implements storage.Mover. The numbers in between are left out, and what is
// older counts as compacted.
func (d *driver) Raise(ctx context.Context, tenant storage.Tenant, to int64) error {
	if err := d.admissible(tenant); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return d.inside(ctx, tenant.Schema, fmt.Sprintf("raising the revision of schema %s to %d", tenant.Schema, to), func(conn *pgx.Conn) error {
		return transaction(ctx, conn, func(tx pgx.Tx) error {
			t, err := ensureTable(ctx, tx, tenant)
			if err != nil {
				return err
			}
			if !t.plain {
				return d.unusual(tenant)
			}
			return raise(ctx, tx, t.sequence, to)
		})
	})
}

func raise(ctx context.Context, tx pgx.Tx, sequence string, to int64) error {
	at, err := revision(ctx, tx)
	if err != nil || at >= to {
		return err
	}
	done, err := tx.Exec(ctx, `UPDATE public.kine SET prev_revision = greatest(prev_revision, $1) WHERE name = $2`, to, kine.CompactKey)
	if err != nil {
		return err
	}
	if done.RowsAffected() == 0 {
		_, err = tx.Exec(ctx, `
INSERT INTO public.kine (name, created, deleted, create_revision, prev_revision, lease, value) VALUES ($1, 1, 0, 0, $2, 0, '')`, kine.CompactKey, to)
		if err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, `
INSERT INTO public.kine (id, name, created, deleted, create_revision, prev_revision, lease) VALUES ($1, $2, 0, 1, 0, 0, 0)`, to, kine.Gap(to))
	if err != nil {
		return err
	}
	// It is not undone with the transaction, and does no harm.
	_, err = tx.Exec(ctx, `SELECT setval($1::regclass, greatest($2, (SELECT last_value FROM `+sequence+`)))`, sequence, to)
	return err
}

// Page implements storage.Mover. There is nothing in a database that does not exist.
func (d *driver) Page(ctx context.Context, tenant storage.Tenant, after string, limit int) (storage.Page, error) {
	if err := d.admissible(tenant); err != nil {
		return storage.Page{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	var rows []kine.Row
	err := d.inside(ctx, tenant.Schema, "reading the keys of schema "+tenant.Schema, func(conn *pgx.Conn) error {
		t, err := lookAtTable(ctx, conn)
		if err != nil || !t.exists {
			return err
		}
		if !t.readable {
			return d.unusual(tenant)
		}
		rows, err = page(ctx, conn, after, limit)
		return err
	})
	switch code(err) {
	case "":
	// The latter is one whose creation was interrupted.
	case codeNoDatabase, codeNotOpen:
		return storage.Page{Last: after}, nil
	}
	if err != nil {
		return storage.Page{}, err
	}
	return kine.Page(rows, after, limit), nil
}

// page reads the last row of each of the next keys.
func page(ctx context.Context, conn *pgx.Conn, after string, limit int) ([]kine.Row, error) {
	found, err := conn.Query(ctx, `
SELECT k.name, k.deleted <> 0, CASE WHEN k.deleted = 0 THEN k.value END, k.lease
FROM (SELECT max(id) AS id FROM public.kine WHERE name COLLATE "C" > $1 AND name COLLATE "C" < $2 GROUP BY name COLLATE "C" ORDER BY name COLLATE "C" LIMIT $3) last
JOIN public.kine k USING (id) ORDER BY k.name COLLATE "C"`, kine.Prefix+after, kine.End, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, func(row pgx.CollectableRow) (kine.Row, error) {
		var r kine.Row
		err := row.Scan(&r.Name, &r.Deleted, &r.Value, &r.Lease)
		return r, err
	})
}

// Import implements storage.Mover. The lock on the table is held while the token is
// read and the rows are written, and giving the table back to the tenant waits for it.
func (d *driver) Import(ctx context.Context, tenant storage.Tenant, token string, entries []storage.Entry) error {
	if err := d.admissible(tenant); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	released := storage.Errorf(storage.ReasonPermissionDenied, "schema %s in DataStore %s is not held for this migration any more", tenant.Schema, d.config.Name)
	return d.inside(ctx, tenant.Schema, "writing the keys of schema "+tenant.Schema, func(conn *pgx.Conn) error {
		return transaction(ctx, conn, func(tx pgx.Tx) error {
			t, err := lookAtTable(ctx, tx)
			switch {
			case err != nil:
				return err
			case !t.ours:
				return released
			case !t.plain:
				return d.unusual(tenant)
			}
			if err := execute(ctx, tx, `LOCK TABLE public.kine IN ROW EXCLUSIVE MODE`); err != nil {
				return err
			}
			var comment string
			err = tx.QueryRow(ctx, `
SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = current_database()`).Scan(&comment)
			if err != nil {
				return err
			}
			if comment != frozenComment(tenant, token) {
				return released
			}
			return write(ctx, tx, kine.Rows(entries))
		})
	})
}

// write replaces keys by rows that say that they were created.
func write(ctx context.Context, tx pgx.Tx, rows []kine.Row) error {
	names, values, leases := make([]string, len(rows)), make([][]byte, len(rows)), make([]int64, len(rows))
	for i, r := range rows {
		names[i], values[i], leases[i] = r.Name, r.Value, r.Lease
		if strings.Contains(r.Name, "\x00") {
			return storage.Errorf(storage.ReasonInvalid, "key %q holds a zero byte, which PostgreSQL doesn't store", r.Name)
		}
	}
	if _, err := tx.Exec(ctx, `DELETE FROM public.kine WHERE name = ANY($1)`, names); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `
INSERT INTO public.kine (name, created, deleted, create_revision, prev_revision, lease, value)
SELECT e.name, 1, 0, 0, 0, e.lease, e.value FROM unnest($1::text[], $2::bytea[], $3::bigint[]) AS e (name, value, lease)`, names, values, leases)
	return err
}

// frozenComment is the comment on a database that is held by an attempt.
func frozenComment(tenant storage.Tenant, token string) string {
	return commentPrefix + tenant.Owner + frozenMark + token
}
