// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

// commentPrefix begins the comments on roles and databases; the owner follows.
const commentPrefix = "kamaji.clastix.io/tenant: "

// role is what the catalogue says about a tenant's role.
type role struct {
	exists bool
	// comment names whose it is.
	comment string
	// login tells whether it may connect, elevated whether it has rights that no tenant has.
	login, elevated bool
	// memberOf are other roles whose rights it has.
	memberOf []string
	// ours tells whether the administrator can act for it.
	ours bool
	// there and elsewhere tell whether it owns something, or was given rights, in
	// the tenant's database and outside of it.
	there, elsewhere bool
}

// database is what the catalogue says about a tenant's database.
type database struct {
	exists         bool
	comment, owner string
	// open tells whether anybody may connect, public whether everybody has rights there.
	open, public bool
}

type state struct {
	role     role
	database database
}

// querier is a connection or a pool.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

const roleQuery = `
SELECT coalesce(pg_catalog.shobj_description(r.oid, 'pg_authid'), ''),
       r.rolcanlogin,
       r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls,
       ARRAY(SELECT pg_catalog.pg_get_userbyid(m.roleid)::text FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid ORDER BY 1),
       pg_catalog.pg_has_role(current_user, r.oid, 'USAGE'),
       coalesce(h.there, false), coalesce(h.elsewhere, false)
FROM pg_catalog.pg_roles r LEFT JOIN pg_catalog.pg_database d ON d.datname = $2
LEFT JOIN LATERAL (
  SELECT bool_or(i.inside) AS there, bool_or(NOT i.inside) AS elsewhere
  FROM (SELECT coalesce(s.dbid = d.oid OR (s.dbid = 0 AND s.classid = 'pg_catalog.pg_database'::regclass AND s.objid = d.oid), false) AS inside
        FROM pg_catalog.pg_shdepend s WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass AND s.refobjid = r.oid) i
) h ON true
WHERE r.rolname = $1`

const databaseQuery = `
SELECT coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), ''),
       pg_catalog.pg_get_userbyid(d.datdba)::text,
       d.datallowconn,
       EXISTS (SELECT FROM pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a WHERE a.grantee = 0)
FROM pg_catalog.pg_database d WHERE d.datname = $1`

// read looks at role and database of a tenant.
func (d *driver) read(ctx context.Context, q querier, tenant storage.Tenant) (state, error) {
	var s state
	r, b := &s.role, &s.database
	err := q.QueryRow(ctx, roleQuery, tenant.User, tenant.Schema).Scan(&r.comment, &r.login, &r.elevated, &r.memberOf, &r.ours, &r.there, &r.elsewhere)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return s, d.explain(err, "reading role "+tenant.User)
	}
	r.exists = err == nil
	err = q.QueryRow(ctx, databaseQuery, tenant.Schema).Scan(&b.comment, &b.owner, &b.open, &b.public)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return s, d.explain(err, "reading database "+tenant.Schema)
	}
	b.exists = err == nil
	return s, nil
}

// claim tells whose an object with this comment is: the tenant's, somebody
// else's, or nobody's that is known.
func claim(comment string, tenant storage.Tenant) (mine, taken bool) {
	owned, _, _ := strings.Cut(comment, frozenMark)
	mine = owned == commentPrefix+tenant.Owner
	return mine, comment != "" && !mine
}

// check fails with ReasonTaken unless both are the tenant's or can become so.
// Something without a record, as engines of other versions left it, is adopted
// only if nobody else can miss it: a role with rights there and nowhere else, and a
// database that holds nothing but kine's table.
func (d *driver) check(ctx context.Context, tenant storage.Tenant, s state) error {
	taken := func(format string, args ...any) error {
		e := storage.Errorf(storage.ReasonTaken, format, args...)
		e.Message += "; give " + tenant.Owner + " another schema and user"
		return e
	}
	if r := s.role; r.exists {
		mine, other := claim(r.comment, tenant)
		switch {
		case other:
			return taken("role %s is taken by %s", tenant.User, strings.TrimPrefix(r.comment, commentPrefix))
		case !mine && (r.elevated || !r.there || r.elsewhere || len(r.memberOf) > 0):
			return taken("role %s exists and was not made for database %s", tenant.User, tenant.Schema)
		}
	}
	b := s.database
	if !b.exists {
		return nil
	}
	mine, other := claim(b.comment, tenant)
	switch {
	case other:
		return taken("database %s is taken by %s", tenant.Schema, strings.TrimPrefix(b.comment, commentPrefix))
	case mine:
		return nil
	case b.owner != tenant.User && b.owner != d.admin:
		return taken("database %s exists and belongs to role %s", tenant.Schema, b.owner)
	}
	only, err := d.onlyKine(ctx, tenant.Schema, b)
	if err != nil {
		return err
	}
	if !only {
		return taken("database %s exists, was not made for a tenant, and holds other things than kine's table", tenant.Schema)
	}
	return nil
}

// onlyKine reports whether a database is empty or holds just what kine makes.
func (d *driver) onlyKine(ctx context.Context, name string, b database) (bool, error) {
	if !b.open {
		// Its creation was interrupted.
		return true, nil
	}
	config := d.pool.Config().ConnConfig
	config.Database = name
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false, d.explain(err, "looking into database "+name)
	}
	defer func() { _ = conn.Close(ctx) }()
	var others int
	err = conn.QueryRow(ctx, `
SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND c.relname <> 'kine'`).Scan(&others)
	if err != nil {
		return false, d.explain(err, "looking into database "+name)
	}
	return others == 0, nil
}
