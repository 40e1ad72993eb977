// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
)

func TestMoverContract(t *testing.T) {
	from, to := storagetest.StartPostgres(t), storagetest.StartPostgres(t)
	storagetest.RunMover(t, storagetest.MoveHarness{
		Source: harness(from, open(t, from.Config)), Target: harness(to, open(t, to.Config)),
	})
}

// Managed services give no superuser.
func TestMoverContractWithLesserAdministrator(t *testing.T) {
	from, to := storagetest.StartPostgres(t), storagetest.StartPostgres(t)
	side := func(server *storagetest.Postgres) storagetest.Harness {
		if err := server.Exec("postgres", `CREATE ROLE operator LOGIN CREATEROLE CREATEDB PASSWORD 'o'`); err != nil {
			t.Fatal(err)
		}
		server.SetAccess(t, strings.Replace(storagetest.ByBoth, "postgres", "postgres,operator", 1))
		config := server.Config
		config.Username, config.Password, config.CAKey = "operator", "o", server.CAKey
		return harness(server, open(t, config))
	}
	storagetest.RunMover(t, storagetest.MoveHarness{Source: side(from), Target: side(to)})
}

// held is a tenant with one key, and a way to act as it.
func held(t *testing.T) (server *storagetest.Postgres, m storage.Mover, tn storage.Tenant, as func(statement string) error) {
	t.Helper()
	server, tn = storagetest.StartPostgres(t), storage.Tenant{Owner: "a/b", Schema: "s", User: "u"}
	m = open(t, server.Config).(storage.Mover)
	credentials, err := m.Credentials(tn, storage.Credentials{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.EnsureTenant(t.Context(), tn, credentials); err != nil {
		t.Fatal(err)
	}
	if err := server.Put(tn, credentials, "/s/a", "1"); err != nil {
		t.Fatal(err)
	}
	return server, m, tn, func(statement string) error { return server.ExecAs(tn, credentials, statement) }
}

// What the owner of a table and a database may do beforehand does not help it
// afterwards, and nothing that it can do ends the freeze.
func TestFreezeCannotBeLifted(t *testing.T) {
	_, m, tn, as := held(t)
	const write = `INSERT INTO kine (name, deleted) VALUES ('/registry/x', 0)`
	for _, statement := range []string{
		`GRANT ALL ON kine TO PUBLIC`, `GRANT INSERT (name, deleted) ON kine TO PUBLIC`, `GRANT ALL ON kine TO u WITH GRANT OPTION`, write,
		`CREATE FUNCTION through() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ INSERT INTO public.kine (name, deleted) VALUES ('/registry/y', 0) $$`,
		`CREATE VIEW window_ AS SELECT * FROM kine`,
	} {
		if err := as(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	seal, err := m.Freeze(t.Context(), tn, "x")
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		write, `SELECT through()`, `INSERT INTO window_ (name, deleted) VALUES ('/registry/z', 0)`, `ALTER TABLE kine OWNER TO u`, `ALTER DATABASE s OWNER TO u`,
		`GRANT INSERT ON kine TO PUBLIC`, `DROP TABLE kine`, `TRUNCATE kine`, `ALTER TABLE kine RENAME TO other`, `COMMENT ON DATABASE s IS NULL`,
		`SET default_transaction_read_only = off; ` + write, `SET ROLE postgres; ` + write, `RESET ROLE; ` + write,
	} {
		// GRANT warns only when there are no rights to give away.
		if err := as(statement); err == nil && !strings.HasPrefix(statement, "GRANT") {
			t.Errorf("%s: was not refused", statement)
		}
	}
	if again, err := m.Freeze(t.Context(), tn, "x"); err != nil || again != seal {
		t.Errorf("the seal %q became %q, %v", seal, again, err)
	}
}

// A transaction that is left open keeps the table for itself; it is ended.
func TestFreezeEndsTransactions(t *testing.T) {
	server, m, tn, as := held(t)
	done := make(chan error, 1)
	go func() {
		done <- as(`BEGIN; INSERT INTO kine (name, deleted) VALUES ('/registry/open', 0); SELECT pg_sleep(600); COMMIT`)
	}()
	for deadline := time.Now().Add(time.Minute); ; {
		n, err := server.Text("postgres", `SELECT count(*)::text FROM pg_stat_activity WHERE usename = 'u' AND wait_event = 'PgSleep'`)
		if err != nil {
			t.Fatal(err)
		}
		if n == "1" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the transaction does not begin")
		}
	}
	if _, err := m.Freeze(t.Context(), tn, "x"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("the transaction was committed")
	}
	page, err := m.Page(t.Context(), tn, "", 10)
	if err != nil || len(page.Entries) != 1 {
		t.Errorf("%+v, %v", page, err)
	}
}

// What would be left behind, or would run with the administrator's rights, is refused by name.
func TestRefusedTables(t *testing.T) {
	for name, c := range map[string]struct{ statement, want string }{
		"another prefix": {`INSERT INTO kine (name, deleted) VALUES ('/elsewhere/pods/a', 0)`, `"/elsewhere/pods/a"`},
		"a trigger": {`CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
			CREATE TRIGGER t BEFORE INSERT ON kine FOR EACH ROW EXECUTE FUNCTION f()`, "triggers"},
		"a check":        {`CREATE FUNCTION g(text) RETURNS bool LANGUAGE sql AS 'SELECT true'; ALTER TABLE kine ADD CHECK (g(name))`, "triggers"},
		"row security":   {`ALTER TABLE kine ENABLE ROW LEVEL SECURITY`, "triggers"},
		"a view instead": {`ALTER TABLE kine RENAME TO other; CREATE VIEW kine AS SELECT * FROM other`, "triggers"},
	} {
		t.Run(name, func(t *testing.T) {
			_, m, tn, as := held(t)
			if err := as(c.statement); err != nil {
				t.Fatal(err)
			}
			_, err := m.Freeze(t.Context(), tn, "x")
			if err == nil {
				// Reading harms nobody; writing would.
				err = m.Import(t.Context(), tn, "x", []storage.Entry{{Key: "b", Value: []byte("2")}})
			}
			if !storage.IsPermanent(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %s, got %v", c.want, err)
			}
		})
	}
}
