// SPDX-License-Identifier: Apache-2.0

package mysql

import (
	"context"
	"crypto/sha1" //nolint:gosec // what MariaDB keeps of a password; the password itself is random
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

const (
	// schemaLimit and userLimit are those of the servers, in characters: of MySQL
	// for databases, and of MariaDB for users. MySQL takes 32 and says so itself.
	schemaLimit = 64
	userLimit   = 80

	// registry is the database with the table that says whose schemas and users are.
	registry = "kamaji-clastix-io"
)

// reserved are databases and users that exist in every server, or in those of large providers.
var reserved = []string{registry, "mysql", "sys", "information_schema", "performance_schema", "rdsadmin", "mariadb", "public", "none"}

// admissible refuses the names that no tenant may have here.
func (s *store) admissible(tenant storage.Tenant) error {
	if err := tenant.Validate(); err != nil {
		return err
	}
	for _, f := range []struct {
		field, name string
		limit       int
	}{{"schema", tenant.Schema, schemaLimit}, {"user", tenant.User, userLimit}} {
		switch {
		case len(f.name) > f.limit:
			return storage.Errorf(storage.ReasonInvalid, "%s %q has %d characters, MySQL and MariaDB take %d", f.field, f.name, len(f.name), f.limit)
		case slices.Contains(reserved, strings.ToLower(f.name)), strings.HasPrefix(strings.ToLower(f.name), "mysql."), strings.HasPrefix(strings.ToLower(f.name), "mariadb."):
			return storage.Errorf(storage.ReasonInvalid, "%s %q is reserved by MySQL or by this controller", f.field, f.name)
		case f.name == s.admin:
			return storage.Errorf(storage.ReasonInvalid, "%q is the administrator of DataStore %s; give %s another schema and user",
				f.name, s.config.Name, tenant.Owner)
		}
	}
	return nil
}

// quoted is a name as an SQL identifier.
func quoted(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// pattern is a schema as grants take it, where an underscore stands for any letter.
func pattern(schema string) string {
	return quoted(strings.NewReplacer("_", `\_`, "%", `\%`).Replace(schema))
}

// account is a user as SQL. Names have been checked to hold nothing that needs escaping.
func account(user string) string { return "'" + user + "'@'%'" }

// EnsureTenant implements storage.Driver. For a tenant that is complete it costs
// four reads and one login.
func (s *store) EnsureTenant(ctx context.Context, tenant storage.Tenant, credentials storage.Credentials) error {
	if err := s.admissible(tenant); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.claim(ctx, tenant); err != nil {
		return err
	}
	if err := s.ensureSchema(ctx, tenant.Schema); err != nil {
		return err
	}
	if err := s.ensureUser(ctx, tenant, credentials); err != nil {
		return err
	}
	return s.ensureLogin(ctx, tenant, credentials)
}

func (s *store) do(ctx context.Context, doing string, statements ...string) error {
	for _, statement := range statements {
		if _, err := s.db.ExecContext(ctx, statement); err != nil {
			return s.explain(err, doing)
		}
	}
	return nil
}

// owners reads who holds schema and user; a name that nobody holds is missing.
func (s *store) owners(ctx context.Context, tenant storage.Tenant) (map[string]string, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT kind, owner FROM "+quoted(registry)+".tenants WHERE (kind = 'schema' AND name = ?) OR (kind = 'user' AND name = ?)",
		tenant.Schema, tenant.User)
	if n := number(err); n == errNoDatabase || n == errNoTable {
		return nil, nil
	}
	if err != nil {
		return nil, s.explain(err, "reading the owner of schema "+tenant.Schema)
	}
	defer func() { _ = rows.Close() }()
	out := map[string]string{}
	for rows.Next() {
		var kind, owner string
		if err := rows.Scan(&kind, &owner); err != nil {
			return nil, s.explain(err, "reading the owner of schema "+tenant.Schema)
		}
		out[kind] = owner
	}
	if err := rows.Err(); err != nil {
		return nil, s.explain(err, "reading the owner of schema "+tenant.Schema)
	}
	return out, nil
}

// claim records the owner of schema and user, or fails with ReasonTaken. What
// exists without a record, as engines of other versions left it, is claimed only
// if nobody else can miss it.
func (s *store) claim(ctx context.Context, tenant storage.Tenant) error {
	owners, err := s.owners(ctx, tenant)
	if err != nil {
		return err
	}
	names := map[string]string{"schema": tenant.Schema, "user": tenant.User}
	var missing []string
	for _, kind := range []string{"schema", "user"} {
		switch owner := owners[kind]; owner {
		case tenant.Owner:
		case "":
			missing = append(missing, kind)
		default:
			return storage.Errorf(storage.ReasonTaken, "%s %s is taken by %s; give %s another schema and user", kind, names[kind], owner, tenant.Owner)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	for _, kind := range missing {
		if free, err := s.free(ctx, tenant, kind); err != nil {
			return err
		} else if !free {
			return storage.Errorf(storage.ReasonTaken, "%s %s exists and was not made for %s; give it another schema and user", kind, names[kind], tenant.Owner)
		}
	}
	err = s.do(ctx, "making the table of owners", "CREATE DATABASE IF NOT EXISTS "+quoted(registry), "CREATE TABLE IF NOT EXISTS "+quoted(registry)+
		".tenants (kind VARCHAR(8) NOT NULL, name VARCHAR(80) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, owner VARCHAR(512) NOT NULL, PRIMARY KEY (kind, name))")
	if err != nil {
		return err
	}
	for _, kind := range missing {
		_, err := s.db.ExecContext(ctx, "INSERT INTO "+quoted(registry)+".tenants (kind, name, owner) VALUES (?, ?, ?)", kind, names[kind], tenant.Owner)
		if number(err) == errDuplicate {
			return storage.Errorf(storage.ReasonTaken, "%s %s was taken just now; give %s another", kind, names[kind], tenant.Owner)
		}
		if err != nil {
			return s.explain(err, "recording the owner of "+kind+" "+names[kind])
		}
	}
	return nil
}

// free reports whether a schema holds nothing but kine's table, or a user has
// rights in the tenant's schema and nowhere else. What does not exist is free.
func (s *store) free(ctx context.Context, tenant storage.Tenant, kind string) (bool, error) {
	if kind == "schema" {
		var others int
		err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM information_schema.tables WHERE table_schema = ? AND table_name <> 'kine'", tenant.Schema).Scan(&others)
		if err != nil {
			return false, s.explain(err, "looking into schema "+tenant.Schema)
		}
		return others == 0, nil
	}
	lines, err := s.grants(ctx, tenant.User)
	if err != nil || lines == nil {
		return err == nil, err
	}
	there := false
	for _, line := range lines {
		inside := strings.Contains(line, " ON "+pattern(tenant.Schema)+".* ") || strings.Contains(line, " ON "+quoted(tenant.Schema)+".* ")
		there = there || inside
		if !inside && !strings.HasPrefix(line, "GRANT USAGE ON *.* ") {
			return false, nil
		}
	}
	return there, nil
}

// grants are the statements that would give a user what it has, nil for one that
// does not exist; of the administrator, if user is empty. They may hold hashes
// of passwords and must not be shown.
func (s *store) grants(ctx context.Context, user string) ([]string, error) {
	query := "SHOW GRANTS"
	if user != "" {
		query += " FOR " + account(user)
	}
	rows, err := s.db.QueryContext(ctx, query)
	if number(err) == errNoGrants {
		return nil, nil
	}
	if err != nil {
		return nil, s.explain(err, "reading the rights of user "+user)
	}
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return nil, s.explain(err, "reading the rights of user "+user)
		}
		out = append(out, line)
	}
	// MariaDB sends the columns first, and then that there is no such user.
	if err := rows.Err(); err != nil && number(err) != errNoGrants {
		return nil, s.explain(err, "reading the rights of user "+user)
	}
	return out, nil
}

func (s *store) ensureSchema(ctx context.Context, schema string) error {
	var there int
	err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM information_schema.schemata WHERE schema_name = ?", schema).Scan(&there)
	if err != nil {
		return s.explain(err, "reading schema "+schema)
	}
	if there > 0 {
		return nil
	}
	return s.do(ctx, "creating schema "+schema, "CREATE DATABASE IF NOT EXISTS "+quoted(schema))
}

// ensureUser leaves a user with all rights in its schema and none elsewhere.
func (s *store) ensureUser(ctx context.Context, tenant storage.Tenant, credentials storage.Credentials) error {
	lines, err := s.grants(ctx, tenant.User)
	if err != nil {
		return err
	}
	user, doing := account(tenant.User), "setting up user "+tenant.User
	if lines == nil {
		by, err := s.identifiedBy(ctx, credentials.Password)
		if err != nil {
			return err
		}
		if err := s.do(ctx, "creating user "+tenant.User, "CREATE USER "+user+by); err != nil {
			return err
		}
	}
	wanted, foreign := false, false
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "GRANT USAGE ON *.* ") && !strings.Contains(line, "GRANT OPTION"):
		case strings.HasPrefix(line, "GRANT ALL PRIVILEGES ON "+pattern(tenant.Schema)+".* ") && !strings.Contains(line, "GRANT OPTION"):
			wanted = true
		case strings.HasPrefix(line, "GRANT ") && !strings.Contains(line, " ON "), strings.HasPrefix(line, "SET DEFAULT ROLE "):
		default:
			foreign = true
		}
	}
	if err := s.do(ctx, doing, revokeRoles(lines, user)...); err != nil || wanted && !foreign {
		return err
	}
	if err := s.release(ctx, tenant.Schema); err != nil {
		return err
	}
	if foreign {
		if err := s.do(ctx, doing, "REVOKE ALL PRIVILEGES, GRANT OPTION FROM "+user); err != nil {
			return err
		}
	}
	if err := s.do(ctx, doing, "GRANT ALL PRIVILEGES ON "+pattern(tenant.Schema)+".* TO "+user); err != nil || lines == nil {
		return err
	}
	// Those that are open keep the rights that they had.
	return s.endConnections(ctx, tenant.User)
}

// identifiedBy is the clause that sets a password. MariaDB is given the hash, since
// it writes statements to its logs as they are; MySQL replaces passwords there.
func (s *store) identifiedBy(ctx context.Context, password string) (string, error) {
	var version string
	if err := s.db.QueryRowContext(ctx, "SELECT version()").Scan(&version); err != nil {
		return "", s.explain(err, "reading the version of the server")
	}
	if !strings.Contains(version, "MariaDB") {
		return " IDENTIFIED BY '" + password + "'", nil
	}
	first := sha1.Sum([]byte(password)) //nolint:gosec // see above
	second := sha1.Sum(first[:])        //nolint:gosec // see above
	return " IDENTIFIED BY PASSWORD '*" + strings.ToUpper(hex.EncodeToString(second[:])) + "'", nil
}

// ensureLogin connects as the tenant, which alone tells whether the password is the right one.
func (s *store) ensureLogin(ctx context.Context, tenant storage.Tenant, credentials storage.Credentials) error {
	err := s.login(ctx, tenant, credentials)
	change := ""
	switch number(err) {
	case errAccessDenied:
		if change, err = s.identifiedBy(ctx, credentials.Password); err != nil {
			return err
		}
	case errAccountLocked, errAccountLocked2:
		change = " ACCOUNT UNLOCK"
	}
	if change != "" {
		if err := s.do(ctx, "repairing the login of user "+tenant.User, "ALTER USER "+account(tenant.User)+change); err != nil {
			return err
		}
		err = s.login(ctx, tenant, credentials)
	}
	if err != nil {
		return s.explain(err, fmt.Sprintf("logging in to schema %s as user %s, as the tenant will", tenant.Schema, tenant.User))
	}
	return nil
}

func (s *store) login(ctx context.Context, tenant storage.Tenant, credentials storage.Credentials) error {
	as := s.config
	as.Certificate, as.Key = credentials.Certificate, credentials.Key
	servers, err := dialers(as, tenant.User, credentials.Password, tenant.Schema)
	if err != nil {
		return err
	}
	conn, err := servers.Connect(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}

// DeleteTenant implements storage.Driver. The user goes first: without it nothing
// can write behind the deletion's back. The records go last.
func (s *store) DeleteTenant(ctx context.Context, tenant storage.Tenant) error {
	if err := s.admissible(tenant); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, deleteTimeout)
	defer cancel()
	owners, err := s.owners(ctx, tenant)
	if err != nil {
		return err
	}
	mine := map[string]bool{}
	for _, kind := range []string{"schema", "user"} {
		mine[kind] = owners[kind] == tenant.Owner
		if owners[kind] == "" {
			if mine[kind], err = s.free(ctx, tenant, kind); err != nil {
				return err
			}
		}
	}
	if mine["user"] {
		if err := s.do(ctx, "deleting user "+tenant.User, "DROP USER IF EXISTS "+account(tenant.User)); err != nil {
			return err
		}
		// Where the administrator may not, they end with the pods.
		_ = s.endConnections(ctx, tenant.User)
	}
	if mine["schema"] {
		if err := s.do(ctx, "deleting schema "+tenant.Schema, "DROP DATABASE IF EXISTS "+quoted(tenant.Schema)); err != nil {
			return err
		}
	}
	if len(owners) == 0 {
		return nil
	}
	if mine["schema"] {
		if err := s.release(ctx, tenant.Schema); err != nil {
			return err
		}
	}
	_, err = s.db.ExecContext(ctx, "DELETE FROM "+quoted(registry)+".tenants WHERE owner = ? AND ((kind = 'schema' AND name = ?) OR (kind = 'user' AND name = ?))",
		tenant.Owner, tenant.Schema, tenant.User)
	if err != nil {
		return s.explain(err, "releasing schema "+tenant.Schema)
	}
	return nil
}
