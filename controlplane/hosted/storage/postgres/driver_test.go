// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/postgres"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
)

func open(t *testing.T, config storage.Config) storage.Driver {
	t.Helper()
	driver, err := postgres.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := driver.Close(); err != nil {
			t.Error(err)
		}
	})
	return driver
}

// damage makes mistakes out of statements, in which @schema and @user stand for the tenant's.
func damage(server *storagetest.Postgres, database string, statements ...string) func(*testing.T, storage.Tenant) {
	return func(t *testing.T, tenant storage.Tenant) {
		in := strings.ReplaceAll(database, "@schema", tenant.Schema)
		for _, statement := range statements {
			if err := server.Exec(in, strings.NewReplacer("@schema", `"`+tenant.Schema+`"`, "@user", `"`+tenant.User+`"`).Replace(statement)); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
	}
}

func harness(server *storagetest.Postgres, driver storage.Driver) storagetest.Harness {
	return storagetest.Harness{
		Driver: driver, Store: server,
		Fingerprint: func(t *testing.T, tenant storage.Tenant) string {
			got, err := server.Text("postgres", `
SELECT concat_ws(' ', r.xmin, d.xmin, (SELECT string_agg(s.xmin::text, ' ' ORDER BY s.objoid) FROM pg_shdescription s WHERE s.objoid IN (r.oid, d.oid)))
FROM pg_authid r, pg_database d WHERE r.rolname = $1 AND d.datname = $2`, tenant.User, tenant.Schema)
			if err != nil {
				t.Fatal(err)
			}
			return got
		},
		Damage: map[string]func(*testing.T, storage.Tenant){
			"password lost":      damage(server, "postgres", `ALTER ROLE @user PASSWORD NULL`),
			"password changed":   damage(server, "postgres", `ALTER ROLE @user PASSWORD 'x'`),
			"login lost":         damage(server, "postgres", `ALTER ROLE @user NOLOGIN`),
			"superuser":          damage(server, "postgres", `ALTER ROLE @user SUPERUSER CREATEDB`),
			"member of another":  damage(server, "postgres", `GRANT pg_read_all_data TO @user`),
			"database given up":  damage(server, "postgres", `ALTER DATABASE @schema OWNER TO postgres`),
			"connections closed": damage(server, "postgres", `ALTER DATABASE @schema WITH ALLOW_CONNECTIONS false`),
			"open to everybody":  damage(server, "postgres", `GRANT CONNECT ON DATABASE @schema TO PUBLIC`),
			"records lost":       damage(server, "postgres", `COMMENT ON ROLE @user IS NULL`, `COMMENT ON DATABASE @schema IS NULL`),
			"role lost": damage(server, "@schema", `ALTER DATABASE @schema OWNER TO postgres`,
				`ALTER TABLE kine OWNER TO postgres`, `GRANT ALL ON kine TO PUBLIC`, `DROP ROLE @user`),
		},
	}
}

func TestContract(t *testing.T) {
	server := storagetest.StartPostgres(t)
	storagetest.Run(t, harness(server, open(t, server.Config)))

	left, err := server.Text("postgres", `
SELECT concat((SELECT string_agg(datname, ' ') FROM pg_database WHERE datname !~ '^(postgres|template[01])$'),
              (SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolname !~ '^(postgres$|pg_)'))`)
	if err != nil || left != "" {
		t.Errorf("after all tenants are gone: %q, %v", left, err)
	}
	if strings.Contains(server.Log.String(), " PASSWORD '") && !strings.Contains(server.Log.String(), " PASSWORD 'SCRAM-SHA-256$") {
		t.Error("passwords are in the log of the server")
	}
}

// Managed services give no superuser; tenants have to show certificates as well.
func TestContractWithLesserAdministrator(t *testing.T) {
	server := storagetest.StartPostgres(t)
	if err := server.Exec("postgres", `CREATE ROLE operator LOGIN CREATEROLE CREATEDB PASSWORD 'o'`); err != nil {
		t.Fatal(err)
	}
	server.SetAccess(t, strings.Replace(storagetest.ByBoth, "postgres", "postgres,operator", 1))
	config := server.Config
	config.Username, config.Password, config.CAKey = "operator", "o", server.CAKey
	h := harness(server, open(t, config))
	for _, onlyForSuperusers := range []string{"superuser", "member of another", "database given up", "role lost"} {
		delete(h.Damage, onlyForSuperusers)
	}
	storagetest.Run(t, h)
}

func TestProbe(t *testing.T) {
	server, stranger := storagetest.StartPostgres(t), storagetest.NewAuthority(t)
	if err := server.Exec("postgres", `CREATE ROLE weak LOGIN CREATEDB PASSWORD 'w'`); err != nil {
		t.Fatal(err)
	}
	// Nobody listens at the first address, as after the loss of one member.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*storage.Config)
		want   storage.Reason
	}{
		"first member lost": {func(c *storage.Config) { c.Endpoints = []string{gone, c.Endpoints[0]} }, ""},
		"without TLS":       {func(c *storage.Config) { c.CA = nil }, ""},
		"nobody listens":    {func(c *storage.Config) { c.Endpoints = []string{gone} }, storage.ReasonUnreachable},
		"wrong password":    {func(c *storage.Config) { c.Password = "x" }, storage.ReasonPermissionDenied},
		"lesser role":       {func(c *storage.Config) { c.Username, c.Password = "weak", "w" }, storage.ReasonPermissionDenied},
		"foreign authority": {func(c *storage.Config) { c.CA = stranger.CA }, storage.ReasonTLSFailed},
	} {
		t.Run(name, func(t *testing.T) {
			config := server.Config
			c.change(&config)
			err := open(t, config).Probe(t.Context())
			if (err != nil || c.want != "") && storage.ReasonOf(err) != c.want {
				t.Errorf("want %q, got %v", c.want, err)
			}
			if err != nil && config.Password != "" && strings.Contains(err.Error(), server.Config.Password) {
				t.Errorf("the error holds the password: %v", err)
			}
		})
	}
	server.SetAccess(t, storagetest.ByNothing)
	config := server.Config
	config.CA = nil
	if err := open(t, config).Probe(t.Context()); storage.ReasonOf(err) != storage.ReasonAuthDisabled {
		t.Errorf("trust: want %s, got %v", storage.ReasonAuthDisabled, err)
	}
}

// A tenant may ask for any name; what belongs to others must stay theirs.
func TestForeignObjects(t *testing.T) {
	server := storagetest.StartPostgres(t)
	driver := open(t, server.Config)
	for _, statement := range []string{
		`CREATE DATABASE shop`, `CREATE ROLE shopkeeper LOGIN PASSWORD 's'`, `ALTER DATABASE shop OWNER TO shopkeeper`,
		`CREATE DATABASE books`, `CREATE DATABASE legacy`, `CREATE ROLE legacy LOGIN PASSWORD 'old'`, `GRANT ALL ON DATABASE legacy TO legacy`,
	} {
		if err := server.Exec("postgres", statement); err != nil {
			t.Fatal(err)
		}
	}
	for database, statement := range map[string]string{"books": `CREATE TABLE ledger (id int)`, "legacy": `CREATE TABLE kine (name text PRIMARY KEY, value text)`} {
		if err := server.Exec(database, statement); err != nil {
			t.Fatal(err)
		}
	}
	ensure := func(tenant storage.Tenant) error {
		credentials, err := driver.Credentials(tenant, storage.Credentials{}, time.Now())
		if err != nil {
			return err
		}
		return driver.EnsureTenant(t.Context(), tenant, credentials)
	}
	for _, tenant := range []storage.Tenant{
		{Owner: "ns/thief", Schema: "shop", User: "thief"}, {Owner: "ns/thief", Schema: "theirs", User: "shopkeeper"}, {Owner: "ns/thief", Schema: "books", User: "thief"},
	} {
		if err := ensure(tenant); storage.ReasonOf(err) != storage.ReasonTaken {
			t.Errorf("%v: want %s, got %v", tenant, storage.ReasonTaken, err)
		}
		if err := driver.DeleteTenant(t.Context(), tenant); err != nil {
			t.Errorf("%v: a tenant that got nothing must still be deletable: %v", tenant, err)
		}
	}
	for name, query := range map[string]string{
		"databases": `SELECT count(*)::text FROM pg_database WHERE datname IN ('shop', 'books')`, "roles": `SELECT (count(*) + 1)::text FROM pg_roles WHERE rolname = 'shopkeeper'`,
	} {
		if got, err := server.Text("postgres", query); err != nil || got != "2" {
			t.Errorf("%s of others: %s, %v", name, got, err)
		}
	}
	// What an engine of another version left, which kept no record.
	if err := ensure(storage.Tenant{Owner: "ns/legacy", Schema: "legacy", User: "legacy"}); err != nil {
		t.Errorf("adopting: %v", err)
	}
}

func TestNames(t *testing.T) {
	driver, err := postgres.Open(storage.Config{Name: "test", Endpoints: []string{"127.0.0.1:1"}, Username: "operator", Password: "x"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = driver.Close() }()
	for _, tenant := range []storage.Tenant{
		{Owner: "a/b", Schema: strings.Repeat("x", 64), User: "u"}, {Owner: "a/b", Schema: "s", User: strings.Repeat("x", 64)},
		{Owner: "a/b", Schema: "Upper", User: "u"}, {Owner: "a/b", Schema: "template1", User: "u"},
		{Owner: "a/b", Schema: "s", User: "pg_monitor"}, {Owner: "a/b", Schema: "s", User: "operator"},
	} {
		if _, err := driver.Credentials(tenant, storage.Credentials{}, time.Now()); storage.ReasonOf(err) != storage.ReasonInvalid {
			t.Errorf("%v: %v", tenant, err)
		}
	}
	credentials, err := driver.Credentials(storage.Tenant{Owner: "a/b", Schema: "s", User: strings.Repeat("x", 63)}, storage.Credentials{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if printed := fmt.Sprintf("%v %+v %#v", credentials, credentials, credentials); strings.Contains(printed, credentials.Password) {
		t.Errorf("prints the password: %s", printed)
	}
}
