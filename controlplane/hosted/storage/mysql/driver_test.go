// SPDX-License-Identifier: Apache-2.0

package mysql_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/mysql"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
)

func open(t *testing.T, config storage.Config) storage.Driver {
	t.Helper()
	driver, err := mysql.Open(config)
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

func TestContract(t *testing.T) {
	server := storagetest.StartMariaDB(t)
	// damage makes mistakes out of statements, in which @schema and @user stand for the tenant's.
	damage := func(statements ...string) func(*testing.T, storage.Tenant) {
		return func(t *testing.T, tenant storage.Tenant) {
			for _, statement := range statements {
				statement = strings.NewReplacer("@schema", "`"+tenant.Schema+"`", "@user", "'"+tenant.User+"'@'%'").Replace(statement)
				if err := server.Exec(statement); err != nil {
					t.Fatalf("%s: %v", statement, err)
				}
			}
		}
	}
	storagetest.Run(t, storagetest.Harness{
		Driver: open(t, server.Config), Store: server,
		Damage: map[string]func(*testing.T, storage.Tenant){
			"password changed":  damage(`ALTER USER @user IDENTIFIED BY 'x'`),
			"locked":            damage(`ALTER USER @user ACCOUNT LOCK`),
			"user lost":         damage(`DROP USER @user`),
			"rights lost":       damage(`REVOKE ALL PRIVILEGES, GRANT OPTION FROM @user`),
			"rights elsewhere":  damage("GRANT SELECT ON mysql.* TO @user"),
			"rights everywhere": damage("GRANT ALL PRIVILEGES ON *.* TO @user WITH GRANT OPTION"),
			"role granted":      damage("CREATE ROLE IF NOT EXISTS anything", "GRANT SELECT ON *.* TO anything", "GRANT anything TO @user"),
			"records lost":      damage("DROP DATABASE `kamaji-clastix-io`"),
		},
	})
	if left := server.Left(t); left != "" {
		t.Errorf("after all tenants are gone: %s", left)
	}
	log := server.Statements(t)
	if !strings.Contains(log, "IDENTIFIED BY PASSWORD '*") {
		t.Error("the log of the server holds no statement of the driver")
	}
	for line := range strings.Lines(log) {
		if strings.Contains(line, "IDENTIFIED BY '") && !strings.Contains(line, "IDENTIFIED BY 'x'") && !strings.Contains(line, "'operator'") {
			t.Errorf("a password is in the log of the server: %s", line)
		}
	}
}

// An underscore stands for any letter where rights are granted.
func TestUnderscore(t *testing.T) {
	server := storagetest.StartMariaDB(t)
	driver := open(t, server.Config)
	one, other := storage.Tenant{Owner: "a/b", Schema: "team_a", User: "team_a"}, storage.Tenant{Owner: "a/c", Schema: "teamXa", User: "teamXa"}
	held := map[string]storage.Credentials{}
	for _, tenant := range []storage.Tenant{one, other} {
		credentials, err := driver.Credentials(tenant, storage.Credentials{}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := driver.EnsureTenant(t.Context(), tenant, credentials); err != nil {
			t.Fatal(err)
		}
		held[tenant.User] = credentials
	}
	if err := server.Put(one, held[one.User], "/teamXa/a", "1"); err == nil {
		t.Error("team_a writes to teamXa")
	}
	if err := server.Put(one, held[one.User], "/team_a/a", "1"); err != nil {
		t.Error(err)
	}
}

func TestProbe(t *testing.T) {
	server, stranger := storagetest.StartMariaDB(t), storagetest.NewAuthority(t)
	if err := server.Exec("CREATE USER 'weak'@'%' IDENTIFIED BY 'w'"); err != nil {
		t.Fatal(err)
	}
	if err := server.Exec("CREATE USER 'certified'@'%' REQUIRE SUBJECT '/CN=certified'"); err != nil {
		t.Fatal(err)
	}
	if err := server.Exec("GRANT ALL PRIVILEGES ON *.* TO 'certified'@'%' WITH GRANT OPTION"); err != nil {
		t.Fatal(err)
	}
	certificate, key := server.Certificate(t, "certified")
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
		"as it is":          {func(*storage.Config) {}, ""},
		"first member lost": {func(c *storage.Config) { c.Endpoints = []string{gone, c.Endpoints[0]} }, ""},
		"nobody listens":    {func(c *storage.Config) { c.Endpoints = []string{gone} }, storage.ReasonUnreachable},
		"wrong password":    {func(c *storage.Config) { c.Password = "x" }, storage.ReasonPermissionDenied},
		"lesser user":       {func(c *storage.Config) { c.Username, c.Password = "weak", "w" }, storage.ReasonPermissionDenied},
		"certificate alone": {func(c *storage.Config) { c.Username, c.Password, c.Certificate, c.Key = "", "", certificate, key }, ""},
		"no certificate":    {func(c *storage.Config) { c.Username, c.Password = "certified", "" }, storage.ReasonPermissionDenied},
		"foreign authority": {func(c *storage.Config) { c.CA = stranger.CA }, storage.ReasonTLSFailed},
	} {
		t.Run(name, func(t *testing.T) {
			config := server.Config
			c.change(&config)
			err := open(t, config).Probe(t.Context())
			if (err != nil || c.want != "") && storage.ReasonOf(err) != c.want {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
	if err := server.Exec("SET GLOBAL read_only = 1"); err != nil {
		t.Fatal(err)
	}
	if err := open(t, server.Config).Probe(t.Context()); storage.ReasonOf(err) != storage.ReasonUnreachable {
		t.Errorf("read-only: want %s, got %v", storage.ReasonUnreachable, err)
	}
}

// A tenant may ask for any name; what belongs to others must stay theirs.
func TestForeignObjects(t *testing.T) {
	server := storagetest.StartMariaDB(t)
	driver := open(t, server.Config)
	for _, statement := range []string{
		"CREATE DATABASE shop", "CREATE TABLE shop.orders (id int)", "CREATE USER 'shopkeeper'@'%' IDENTIFIED BY 's'", "GRANT ALL ON shop.* TO 'shopkeeper'@'%'",
		"CREATE DATABASE legacy", "CREATE TABLE legacy.kine (name VARCHAR(630))", "CREATE USER 'legacy'@'%' IDENTIFIED BY 'old'", "GRANT ALL ON legacy.* TO 'legacy'@'%'",
	} {
		if err := server.Exec(statement); err != nil {
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
	for _, tenant := range []storage.Tenant{{Owner: "ns/thief", Schema: "shop", User: "thief"}, {Owner: "ns/thief", Schema: "theirs", User: "shopkeeper"}} {
		if err := ensure(tenant); storage.ReasonOf(err) != storage.ReasonTaken {
			t.Errorf("%v: want %s, got %v", tenant, storage.ReasonTaken, err)
		}
		if err := driver.DeleteTenant(t.Context(), tenant); err != nil {
			t.Errorf("%v: a tenant that got nothing must still be deletable: %v", tenant, err)
		}
	}
	if left := server.Left(t); !strings.Contains(left, "shop ") || !strings.Contains(left, "shopkeeper") {
		t.Errorf("what belongs to others is gone: %s", left)
	}
	if err := ensure(storage.Tenant{Owner: "ns/legacy", Schema: "legacy", User: "legacy"}); err != nil {
		t.Errorf("adopting: %v", err)
	}
}

func TestNames(t *testing.T) {
	driver := open(t, storage.Config{Name: "test", Endpoints: []string{"127.0.0.1:1"}, Username: "operator", Password: "x"})
	for _, tenant := range []storage.Tenant{
		{Owner: "a/b", Schema: strings.Repeat("x", 65), User: "u"}, {Owner: "a/b", Schema: "s", User: strings.Repeat("x", 81)},
		{Owner: "a/b", Schema: "mysql", User: "u"}, {Owner: "a/b", Schema: "s", User: "mysql.sys"}, {Owner: "a/b", Schema: "s", User: "operator"},
	} {
		if _, err := driver.Credentials(tenant, storage.Credentials{}, time.Now()); storage.ReasonOf(err) != storage.ReasonInvalid {
			t.Errorf("%v: %v", tenant, err)
		}
	}
}
