// SPDX-License-Identifier: Apache-2.0

package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/kine"
)

// makeTable is what kine does when it finds no table, but for the order of keys:
// it is that of bytes here, since some names in Kubernetes differ only in case.
const makeTable = `CREATE TABLE IF NOT EXISTS %s (
	id BIGINT UNSIGNED AUTO_INCREMENT, name VARCHAR(630) CHARACTER SET ascii COLLATE ascii_bin, created INTEGER, deleted INTEGER,
	create_revision BIGINT UNSIGNED, prev_revision BIGINT UNSIGNED, lease INTEGER, value MEDIUMBLOB, old_value MEDIUMBLOB,
	PRIMARY KEY (id), INDEX kine_name_index (name), INDEX kine_name_id_index (name, id), INDEX kine_id_deleted_index (id, deleted),
	INDEX kine_prev_revision_index (prev_revision), UNIQUE INDEX kine_name_prev_revision_uindex (name, prev_revision))`

// importBytes bounds one statement. Escaping doubles it at worst, and older
// servers take 4 MiB.
const importBytes = 1 << 20

func tableOf(tenant storage.Tenant) string { return quoted(tenant.Schema) + "." + quoted(kine.Table) }

// lookAtTable reports whether there is a table. A view is refused: what it calls
// would run with the administrator's rights.
func (s *store) lookAtTable(ctx context.Context, tenant storage.Tenant) (bool, error) {
	var kind string
	err := s.db.QueryRowContext(ctx, "SELECT table_type FROM information_schema.tables WHERE table_schema = ? AND table_name = ?", tenant.Schema, kine.Table).Scan(&kind)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, s.explain(err, "looking into schema "+tenant.Schema)
	case kind != "BASE TABLE":
		return false, storage.Errorf(storage.ReasonInvalid, "%s of schema %s in DataStore %s is no table but a %s, which kine doesn't make; remove it",
			kine.Table, tenant.Schema, s.config.Name, strings.ToLower(kind))
	}
	return true, nil
}

// ensureTable makes the table unless there is one.
func (s *store) ensureTable(ctx context.Context, tenant storage.Tenant) error {
	if there, err := s.lookAtTable(ctx, tenant); err != nil || there {
		return err
	}
	return s.do(ctx, "making the table of schema "+tenant.Schema, fmt.Sprintf(makeTable, tableOf(tenant)))
}

// transaction runs work in one, which is rolled back when work fails.
func (s *store) transaction(ctx context.Context, doing string, work func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.explain(err, doing)
	}
	// After a commit it does nothing.
	defer func() { _ = tx.Rollback() }()
	if err := work(tx); err != nil {
		return s.explain(err, doing)
	}
	if err := tx.Commit(); err != nil {
		return s.explain(err, doing)
	}
	return nil
}

func page(ctx context.Context, db *sql.DB, table, after string, limit int) (out []kine.Row, err error) {
	rows, err := db.QueryContext(ctx, `
SELECT k.name, k.deleted <> 0, CASE WHEN k.deleted = 0 THEN k.value END, k.lease
FROM (SELECT max(id) AS id FROM `+table+` WHERE name > ? AND name < ? GROUP BY name ORDER BY name LIMIT ?) AS latest
JOIN `+table+` AS k USING (id) ORDER BY k.name`, kine.Prefix+after, kine.End, limit)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Err(), rows.Close()) }()
	for rows.Next() {
		var r kine.Row
		if err := rows.Scan(&r.Name, &r.Deleted, &r.Value, &r.Lease); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// write replaces keys by rows that say that they were created.
func write(ctx context.Context, tx *sql.Tx, table string, rows []kine.Row) error {
	for len(rows) > 0 {
		n, size := 0, 0
		for n < len(rows) && (n == 0 || size+len(rows[n].Value) <= importBytes) {
			size += len(rows[n].Name) + len(rows[n].Value)
			n++
		}
		if err := writeSome(ctx, tx, table, rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func writeSome(ctx context.Context, tx *sql.Tx, table string, rows []kine.Row) error {
	var names, values []any
	for _, r := range rows {
		if len(r.Name) > kine.NameLimit || strings.ContainsFunc(r.Name, func(c rune) bool { return c > 0x7e || c < 0x20 }) {
			return storage.Errorf(storage.ReasonInvalid, "key %q is longer than %d characters or not ASCII, which kine's table in MySQL doesn't take", r.Name, kine.NameLimit)
		}
		names, values = append(names, r.Name), append(values, r.Name, r.Lease, r.Value)
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE name IN (?"+strings.Repeat(", ?", len(rows)-1)+")", names...); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO "+table+" (name, created, deleted, create_revision, prev_revision, lease, value) VALUES (?, 1, 0, 0, 0, ?, ?)"+
		strings.Repeat(", (?, 1, 0, 0, 0, ?, ?)", len(rows)-1), values...)
	if number(err) == errDuplicate {
		return &storage.Error{Reason: storage.ReasonInvalid, Message: "two keys differ only in case, and the table in MySQL makes no difference", Err: err}
	}
	return err
}
