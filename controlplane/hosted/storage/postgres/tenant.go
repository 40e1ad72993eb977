// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/clientcert"
)

// identifierLimit is NAMEDATALEN less one: PostgreSQL cuts longer names off,
// and two tenants could end up with the same one.
const identifierLimit = 63

// reserved are databases and roles that exist in every PostgreSQL, or in those of
// large providers.
var reserved = []string{"postgres", "template0", "template1", "rdsadmin", "cloudsqladmin", "azure_maintenance", "public", "none"}

// quoted is a name as an SQL identifier.
func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// admissible refuses the names that no tenant may have here.
func (d *driver) admissible(tenant storage.Tenant) error {
	if err := tenant.Validate(); err != nil {
		return err
	}
	for field, name := range map[string]string{"schema": tenant.Schema, "user": tenant.User} {
		switch {
		case len(name) > identifierLimit:
			return storage.Errorf(storage.ReasonInvalid, "%s %q has %d characters, PostgreSQL takes %d", field, name, len(name), identifierLimit)
		case slices.Contains(reserved, strings.ToLower(name)), strings.HasPrefix(strings.ToLower(name), "pg_"):
			return storage.Errorf(storage.ReasonInvalid, "%s %q is reserved by PostgreSQL", field, name)
		case name == d.admin:
			return storage.Errorf(storage.ReasonInvalid, "%q is the administrator of DataStore %s; give %s another schema and user",
				name, d.config.Name, tenant.Owner)
		}
	}
	if tenant.Schema != strings.ToLower(tenant.Schema) {
		return storage.Errorf(storage.ReasonInvalid, "schema %q must be in lower case: kine changes the name of a PostgreSQL database to that", tenant.Schema)
	}
	return nil
}

// EnsureTenant implements storage.Driver. For a tenant that is complete it costs
// two reads and one login.
func (d *driver) EnsureTenant(ctx context.Context, tenant storage.Tenant, credentials storage.Credentials) error {
	if err := d.admissible(tenant); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return d.explain(err, "connecting")
	}
	defer conn.Release()
	s, err := d.read(ctx, conn, tenant)
	if err != nil {
		return err
	}
	if err := d.check(ctx, tenant, s); err != nil {
		return err
	}
	if err := d.ensureRole(ctx, conn, tenant, credentials, s.role); err != nil {
		return err
	}
	if err := d.ensureDatabase(ctx, conn, tenant, s); err != nil {
		return err
	}
	return d.ensureLogin(ctx, conn, tenant, credentials)
}

// do executes statements one after the other.
func (d *driver) do(ctx context.Context, q querier, doing string, statements ...string) error {
	for _, statement := range statements {
		if _, err := q.Exec(ctx, statement); err != nil {
			return d.explain(err, doing)
		}
	}
	return nil
}

// literal is a text as an SQL literal.
func literal(conn *pgxpool.Conn, text string) (string, error) {
	escaped, err := conn.Conn().PgConn().EscapeString(text)
	return "'" + escaped + "'", err
}

// ensureRole leaves a role that may log in and has no rights but its own.
func (d *driver) ensureRole(ctx context.Context, conn *pgxpool.Conn, tenant storage.Tenant, credentials storage.Credentials, r role) error {
	name, doing := quoted(tenant.User), "setting up role "+tenant.User
	comment, err := literal(conn, commentPrefix+tenant.Owner)
	if err != nil {
		return d.explain(err, doing)
	}
	mark := "COMMENT ON ROLE " + name + " IS " + comment
	if !r.exists {
		return d.createRole(ctx, conn, tenant, credentials, mark)
	}
	var statements []string
	if mine, _ := claim(r.comment, tenant); !mine {
		statements = append(statements, mark)
	}
	if r.elevated {
		statements = append(statements, "ALTER ROLE "+name+" NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS")
	}
	if !r.login {
		statements = append(statements, "ALTER ROLE "+name+" LOGIN")
	}
	for _, foreign := range r.memberOf {
		statements = append(statements, "REVOKE "+quoted(foreign)+" FROM "+name)
	}
	return d.do(ctx, conn, doing, statements...)
}

// createRole makes role and record in one transaction.
func (d *driver) createRole(ctx context.Context, conn *pgxpool.Conn, tenant storage.Tenant, credentials storage.Credentials, mark string) error {
	doing := "creating role " + tenant.User
	secret, err := verifier(credentials.Password)
	if err != nil {
		return d.explain(err, doing)
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return d.explain(err, doing)
	}
	// After a commit it does nothing.
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, "CREATE ROLE "+quoted(tenant.User)+" LOGIN PASSWORD '"+secret+"'")
	switch code(err) {
	case codeDuplicateObject, codeUniqueViolation:
		return storage.Errorf(storage.ReasonTaken, "role %s was taken just now; give %s another user", tenant.User, tenant.Owner)
	}
	if err != nil {
		return d.explain(err, doing)
	}
	if err := d.do(ctx, tx, doing, mark); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return d.explain(err, doing)
	}
	return nil
}

// ensureDatabase leaves a database that is the tenant's, and that nobody else can
// connect to. It is opened only when all of that holds.
func (d *driver) ensureDatabase(ctx context.Context, conn *pgxpool.Conn, tenant storage.Tenant, s state) error {
	name, owner, b := quoted(tenant.Schema), quoted(tenant.User), s.database
	doing := "setting up database " + tenant.Schema
	mine, _ := claim(b.comment, tenant)
	frozen := strings.Contains(b.comment, frozenMark)
	if b.exists && mine && b.owner == tenant.User && b.open && !b.public && !frozen {
		return nil
	}
	if !s.role.ours {
		// Only members of a role may make a database for it, unless they are superusers.
		if err := d.do(ctx, conn, "becoming a member of role "+tenant.User, "GRANT "+owner+" TO CURRENT_USER"); err != nil {
			return err
		}
	}
	if !b.exists {
		// Key order must be that of bytes, whatever the language of the server is.
		_, err := conn.Exec(ctx, "CREATE DATABASE "+name+" OWNER "+owner+" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' ALLOW_CONNECTIONS false")
		switch code(err) {
		case codeDuplicateDatabase, codeUniqueViolation:
			return storage.Errorf(storage.ReasonTaken, "database %s was taken just now; give %s another schema", tenant.Schema, tenant.Owner)
		}
		if err != nil {
			return d.explain(err, "creating database "+tenant.Schema)
		}
		b = database{exists: true, owner: tenant.User, public: true}
	}
	comment, err := literal(conn, commentPrefix+tenant.Owner)
	if err != nil {
		return d.explain(err, doing)
	}
	var statements []string
	if b.public {
		statements = append(statements, "REVOKE ALL ON DATABASE "+name+" FROM PUBLIC")
	}
	if !mine {
		statements = append(statements, "COMMENT ON DATABASE "+name+" IS "+comment)
	}
	if !b.open {
		statements = append(statements, "ALTER DATABASE "+name+" WITH ALLOW_CONNECTIONS true")
	}
	if err := d.do(ctx, conn, doing, statements...); err != nil || b.owner == tenant.User && !frozen {
		return err
	}
	return d.giveBack(ctx, tenant)
}

// ensureLogin connects as the tenant: that alone tells whether the password is
// the right one, since what the server stores of it is not for everybody to read.
func (d *driver) ensureLogin(ctx context.Context, conn *pgxpool.Conn, tenant storage.Tenant, credentials storage.Credentials) error {
	err := d.login(ctx, tenant, credentials)
	if code(err) == codeInvalidPassword {
		secret, bad := verifier(credentials.Password)
		if bad != nil {
			return d.explain(bad, "setting the password of role "+tenant.User)
		}
		// The statement holds a hash; an error must not quote even that.
		if _, err := conn.Exec(ctx, "ALTER ROLE "+quoted(tenant.User)+" PASSWORD '"+secret+"'"); err != nil {
			return d.explain(err, "setting the password of role "+tenant.User)
		}
		err = d.login(ctx, tenant, credentials)
	}
	if err != nil {
		return d.explain(err, fmt.Sprintf("logging in to database %s as role %s, as the tenant will", tenant.Schema, tenant.User))
	}
	return nil
}

func (d *driver) login(ctx context.Context, tenant storage.Tenant, credentials storage.Credentials) error {
	as := d.config
	as.Certificate, as.Key = credentials.Certificate, credentials.Key
	secured, err := clientcert.TLS(as)
	if err != nil {
		return err
	}
	config, err := connConfig(as, tenant.User, credentials.Password, tenant.Schema, secured)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// DeleteTenant implements storage.Driver. The role loses its login first: without
// it nothing can write behind the deletion's back.
func (d *driver) DeleteTenant(ctx context.Context, tenant storage.Tenant) error {
	if err := d.admissible(tenant); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, deleteTimeout)
	defer cancel()
	first, done := context.WithTimeout(ctx, callTimeout)
	defer done()
	conn, err := d.pool.Acquire(first)
	if err != nil {
		return d.explain(err, "connecting")
	}
	defer conn.Release()
	s, err := d.read(first, conn, tenant)
	if err != nil {
		return err
	}
	role, schema, err := d.owned(first, tenant, s)
	if err != nil {
		return err
	}
	var statements []string
	if role && s.role.login {
		statements = append(statements, "ALTER ROLE "+quoted(tenant.User)+" NOLOGIN")
	}
	if schema && role && !s.role.ours {
		statements = append(statements, "GRANT "+quoted(tenant.User)+" TO CURRENT_USER")
	}
	if schema {
		statements = append(statements, "DROP DATABASE IF EXISTS "+quoted(tenant.Schema)+" WITH (FORCE)")
	}
	if role {
		statements = append(statements, "DROP ROLE IF EXISTS "+quoted(tenant.User))
	}
	return d.do(ctx, conn, "deleting database "+tenant.Schema+" and role "+tenant.User, statements...)
}

// owned tells for role and database whether they may be deleted: they are the
// tenant's, or nobody else can miss them.
func (d *driver) owned(ctx context.Context, tenant storage.Tenant, s state) (role, schema bool, err error) {
	onlyRole, onlyDatabase := s, s
	onlyRole.database, onlyDatabase.role = database{}, roleless
	for _, part := range []struct {
		exists bool
		state  state
		out    *bool
	}{{s.role.exists, onlyRole, &role}, {s.database.exists, onlyDatabase, &schema}} {
		if !part.exists {
			continue
		}
		switch err := d.check(ctx, tenant, part.state); {
		case err == nil:
			*part.out = true
		case storage.ReasonOf(err) != storage.ReasonTaken:
			return false, false, err
		}
	}
	return role, schema, nil
}

// roleless is a role that does not exist.
var roleless = role{}
