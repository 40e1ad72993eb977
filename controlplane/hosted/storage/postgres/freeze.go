// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/kine"
)

// Freeze implements storage.Mover. Whoever owns a table can give itself every right
// to it, so the administrator becomes the owner of table and database. PostgreSQL
// looks at rights when a statement begins, and the change of owner waits for the
// statements under way: once it is done, nothing gets through.
func (d *driver) Freeze(ctx context.Context, tenant storage.Tenant, token string) (string, error) {
	if err := d.admissible(tenant); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	s, err := d.read(ctx, d.pool, tenant)
	if err != nil {
		return "", err
	}
	mine, _ := claim(s.role.comment, tenant)
	mineToo, _ := claim(s.database.comment, tenant)
	if !mine || !mineToo {
		return "", storage.Errorf(storage.ReasonTaken, "role %s and database %s are not those of %s", tenant.User, tenant.Schema, tenant.Owner)
	}
	if !s.role.ours {
		if err := d.do(ctx, d.pool, "becoming a member of role "+tenant.User, "GRANT "+quoted(tenant.User)+" TO CURRENT_USER"); err != nil {
			return "", err
		}
	}
	var seal string
	err = d.inside(ctx, tenant.Schema, "freezing schema "+tenant.Schema, func(conn *pgx.Conn) error {
		t, err := lookAtTable(ctx, conn)
		if err != nil {
			return err
		}
		if !t.ours || s.database.owner == tenant.User || s.database.comment != frozenComment(tenant, token) {
			if err := d.takeWrites(ctx, conn, tenant, token); err != nil {
				return err
			}
		}
		if err := d.tryWrites(ctx, conn, tenant); err != nil {
			return err
		}
		if err := d.foreign(ctx, conn, tenant); err != nil {
			return err
		}
		seal, err = sealOf(ctx, conn)
		return err
	})
	return seal, err
}

// takeWrites leaves the tenant the right to read, and notes the token, at once.
// Transactions that keep the table for longer than a moment are ended.
func (d *driver) takeWrites(ctx context.Context, conn *pgx.Conn, tenant storage.Tenant, token string) error {
	for {
		err := transaction(ctx, conn, func(tx pgx.Tx) error { return d.takeOver(ctx, tx, tenant, token) })
		if code(err) != codeLocked {
			return err
		}
		_, err = conn.Exec(ctx, `
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = $1`, tenant.User)
		if err != nil {
			return err
		}
	}
}

func (d *driver) takeOver(ctx context.Context, tx pgx.Tx, tenant storage.Tenant, token string) error {
	if err := execute(ctx, tx, fmt.Sprintf("SET LOCAL lock_timeout = %d", lockPatience.Milliseconds())); err != nil {
		return err
	}
	t, err := ensureTable(ctx, tx, tenant)
	if err != nil {
		return err
	}
	if !t.readable {
		return d.unusual(tenant)
	}
	comment, err := tx.Conn().PgConn().EscapeString(frozenComment(tenant, token))
	if err != nil {
		return err
	}
	database, user := quoted(tenant.Schema), quoted(tenant.User)
	return execute(ctx, tx,
		"ALTER DATABASE "+database+" OWNER TO CURRENT_USER",
		"GRANT CONNECT ON DATABASE "+database+" TO "+user,
		"COMMENT ON DATABASE "+database+" IS '"+comment+"'",
		"ALTER TABLE public.kine OWNER TO CURRENT_USER",
		// What the tenant has given to others, or to everybody, would be left.
		"REVOKE ALL ON TABLE public.kine FROM PUBLIC, "+user,
		"REVOKE ALL ON SEQUENCE "+t.sequence+" FROM PUBLIC, "+user,
		"GRANT SELECT ON TABLE public.kine TO "+user)
}

// tryWrites acts as the tenant, and must be refused.
func (d *driver) tryWrites(ctx context.Context, conn *pgx.Conn, tenant storage.Tenant) error {
	for _, attempt := range []string{
		`INSERT INTO public.kine (name) SELECT NULL WHERE false`, `UPDATE public.kine SET deleted = 1 WHERE false`,
		`DELETE FROM public.kine WHERE false`, `ALTER TABLE public.kine OWNER TO ` + quoted(tenant.User),
	} {
		err := transaction(ctx, conn, func(tx pgx.Tx) error {
			if err := execute(ctx, tx, "SET LOCAL ROLE "+quoted(tenant.User)); err != nil {
				return &storage.Error{Reason: storage.ReasonPermissionDenied, Message: "trying to write as the tenant", Err: err}
			}
			return execute(ctx, tx, attempt)
		})
		if err == nil {
			return storage.Errorf(storage.ReasonInternal, "role %s may still write to database %s of DataStore %s; something else changes its rights",
				tenant.User, tenant.Schema, d.config.Name)
		}
		if code(err) != codeDenied {
			return err
		}
	}
	return nil
}

// foreign looks for keys that a move would leave behind.
func (d *driver) foreign(ctx context.Context, conn *pgx.Conn, tenant storage.Tenant) error {
	var name *string
	err := conn.QueryRow(ctx, `
SELECT min(name) FROM public.kine WHERE (name COLLATE "C" < $1 OR name COLLATE "C" >= $2) AND name NOT IN ($3, $4) AND name NOT LIKE $5`,
		kine.Prefix, kine.End, kine.CompactKey, kine.APICompactKey, kine.GapPrefix+"%").Scan(&name)
	if err != nil || name == nil {
		return err
	}
	return kine.Foreign(d.config.Name, tenant.Schema, *name)
}

// sealOf is the last change and the number of rows. kine removes what has expired
// as the tenant, so while it is frozen nothing goes.
func sealOf(ctx context.Context, conn *pgx.Conn) (string, error) {
	var rows, last int64
	if err := conn.QueryRow(ctx, `SELECT count(*), coalesce(max(id), 0) FROM public.kine`).Scan(&rows, &last); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d rows, the last is %d", rows, last), nil
}

// giveBack makes the tenant the owner of database and table again, which ends a freeze.
func (d *driver) giveBack(ctx context.Context, tenant storage.Tenant) error {
	return d.inside(ctx, tenant.Schema, "giving database "+tenant.Schema+" back to role "+tenant.User, func(conn *pgx.Conn) error {
		return transaction(ctx, conn, func(tx pgx.Tx) error {
			comment, err := tx.Conn().PgConn().EscapeString(commentPrefix + tenant.Owner)
			if err != nil {
				return err
			}
			database, user := quoted(tenant.Schema), quoted(tenant.User)
			return execute(ctx, tx,
				"ALTER DATABASE "+database+" OWNER TO "+user,
				"COMMENT ON DATABASE "+database+" IS '"+comment+"'",
				"ALTER TABLE IF EXISTS public.kine OWNER TO "+user)
		})
	})
}
