// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/kine"
)

// makeTable is what kine does when it starts, which leaves alone what is there.
var makeTable = []string{
	`CREATE TABLE IF NOT EXISTS public.kine (
	id BIGSERIAL PRIMARY KEY, name text COLLATE "C", created INTEGER, deleted INTEGER,
	create_revision BIGINT, prev_revision BIGINT, lease INTEGER, value bytea, old_value bytea)`,
	`CREATE INDEX IF NOT EXISTS kine_name_index ON public.kine (name)`,
	`CREATE INDEX IF NOT EXISTS kine_name_id_index ON public.kine (name, id)`,
	`CREATE INDEX IF NOT EXISTS kine_id_deleted_index ON public.kine (id, deleted)`,
	`CREATE INDEX IF NOT EXISTS kine_prev_revision_index ON public.kine (prev_revision)`,
	`CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON public.kine (name, prev_revision)`,
	`CREATE INDEX IF NOT EXISTS kine_list_query_index ON public.kine (name, id DESC, deleted)`,
}

// Codes of a database that doesn't exist or takes no connections, of a right that is
// missing, and of a lock that was not free in time.
const (
	codeNoDatabase = "3D000"
	codeNotOpen    = "55000"
	codeDenied     = "42501"
	codeLocked     = "55P03"
)

// inside connects to the tenant's database as administrator. Settings that its
// owner may have stored there do not count: with another search path an operator
// of the tenant's could be executed in place of that of PostgreSQL.
func (d *driver) inside(ctx context.Context, schema, doing string, work func(*pgx.Conn) error) error {
	config := d.pool.Config().ConnConfig
	config.Database = schema
	for name, value := range map[string]string{
		"search_path": "pg_catalog", "default_transaction_read_only": "off", "default_transaction_isolation": "read committed",
	} {
		config.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return d.explain(err, doing)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := work(conn); err != nil {
		return d.explain(err, doing)
	}
	return nil
}

// transaction runs work in one, which is rolled back when work fails.
func transaction(ctx context.Context, conn *pgx.Conn, work func(pgx.Tx) error) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	// After a commit it does nothing.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := work(tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func execute(ctx context.Context, q querier, statements ...string) error {
	for _, statement := range statements {
		if _, err := q.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// table is what the catalogue says about kine's table.
type table struct {
	exists bool
	// ours tells whether the administrator owns it, which it does while the tenant is frozen.
	ours bool
	// readable tells whether reading it executes nothing of its owner's, and plain
	// the same of writing: triggers, checks, defaults and expressions of indexes
	// would run with the administrator's rights.
	readable, plain bool
	// sequence gives the ids, quoted. Two kines that make the table at the same time
	// leave one with another name than usual.
	sequence string
}

func lookAtTable(ctx context.Context, q querier) (table, error) {
	var t table
	err := q.QueryRow(ctx, `
SELECT c.relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user),
       c.relkind = 'r' AND NOT c.relhasrules AND NOT c.relrowsecurity,
       NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal)
       AND NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = c.oid AND contype NOT IN ('p', 'u', 'n'))
       AND NOT EXISTS (SELECT FROM pg_attrdef f JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum WHERE f.adrelid = c.oid AND a.attname <> 'id')
       AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND (indexprs IS NOT NULL OR indpred IS NOT NULL)),
       coalesce(CASE WHEN c.relkind = 'r' THEN pg_get_serial_sequence('public.kine', 'id') END, '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relname = $1`, kine.Table).
		Scan(&t.ours, &t.readable, &t.plain, &t.sequence)
	if errors.Is(err, pgx.ErrNoRows) {
		return table{}, nil
	}
	t.exists = err == nil
	t.readable = t.readable && t.sequence != ""
	t.plain = t.plain && t.readable
	return t, err
}

// ensureTable makes the table for a tenant unless there is one.
func ensureTable(ctx context.Context, tx pgx.Tx, tenant storage.Tenant) (table, error) {
	t, err := lookAtTable(ctx, tx)
	if err != nil || t.exists {
		return t, err
	}
	if err := execute(ctx, tx, append(makeTable[:len(makeTable):len(makeTable)], "ALTER TABLE public.kine OWNER TO "+quoted(tenant.User))...); err != nil {
		return t, err
	}
	return lookAtTable(ctx, tx)
}

// unusual refuses a table that is more than kine makes.
func (d *driver) unusual(tenant storage.Tenant) error {
	return storage.Errorf(storage.ReasonInvalid,
		"relation public.kine of database %s in DataStore %s is no plain table, or has triggers, rules, checks or expressions that kine doesn't make; remove them",
		tenant.Schema, d.config.Name)
}
