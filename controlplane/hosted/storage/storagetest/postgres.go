// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

// Postgres is a real PostgreSQL with TLS and passwords, on loopback.
type Postgres struct {
	// Config reaches it as superuser postgres.
	Config storage.Config
	Authority
	// Log is what it has logged: every statement.
	Log fmt.Stringer
	dir string
	cmd *exec.Cmd

	mu sync.Mutex
	// conns are idle ones, by who has made them and whereto.
	conns map[string][]*pgx.Conn
}

// Rules of pg_hba.conf for SetAccess.
const (
	// ByPassword asks everybody for a password, over TLS.
	ByPassword = "hostssl all all 127.0.0.1/32 scram-sha-256"
	// ByBoth asks everybody but the superuser for a certificate and a password.
	ByBoth = "hostssl all postgres 127.0.0.1/32 scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full"
	// ByNothing lets everybody in.
	ByNothing = "host all all 127.0.0.1/32 trust"
)

// StartPostgres runs PostgreSQL until the test ends, with ByPassword.
func StartPostgres(t testing.TB) *Postgres {
	t.Helper()
	bin := filepath.Dir(program(t, "/usr/lib/postgresql/*/bin/postgres", "postgresql"))
	out := &log{}
	p := &Postgres{Authority: NewAuthority(t), Log: out, dir: owned(t), conns: map[string][]*pgx.Conn{}}
	password := storage.NewPassword()
	write(t, filepath.Join(p.dir, "password"), []byte(password))
	data := filepath.Join(p.dir, "data")
	initdb := command(p.dir, filepath.Join(bin, "initdb"), "--pgdata="+data, "--username=postgres", "--auth=scram-sha-256",
		"--pwfile="+filepath.Join(p.dir, "password"), "--encoding=UTF8", "--locale=C", "--no-sync")
	if printed, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, printed)
	}
	certificate, key := p.Certificate(t, "postgres-server")
	for name, content := range map[string][]byte{
		"ca.crt": p.CA, "server.crt": certificate, "server.key": key, "pg_hba.conf": []byte(ByPassword + "\n"),
	} {
		write(t, filepath.Join(data, name), content)
	}
	port := freePort(t)
	p.cmd = command(p.dir, filepath.Join(bin, "postgres"), "-D", data, "-c", "listen_addresses=127.0.0.1", "-c", "port="+port,
		"-c", "unix_socket_directories="+p.dir, "-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=60",
		"-c", "ssl=on", "-c", "ssl_ca_file=ca.crt", "-c", "ssl_cert_file=server.crt", "-c", "ssl_key_file=server.key", "-c", "log_statement=all")
	p.cmd.Stderr = out
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting postgres: %v", err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("postgres: %s", out.Tail())
		}
	})
	p.Config = storage.Config{
		Name: "test", Driver: "PostgreSQL", Endpoints: []string{"127.0.0.1:" + port}, CA: p.CA,
		Username: "postgres", Password: password,
	}
	deadline := time.Now().Add(time.Minute)
	for {
		err := p.Exec("postgres", "SELECT 1")
		if err == nil {
			return p
		}
		if time.Now().After(deadline) {
			t.Fatalf("PostgreSQL does not answer: %v", err)
		}
	}
}

// Stop ends the process; nothing answers at its address afterwards.
func (p *Postgres) Stop() {
	if p.cmd.ProcessState != nil {
		return
	}
	// An immediate shutdown, which ends all of its processes.
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	_ = p.cmd.Wait()
}

// SetAccess replaces pg_hba.conf.
func (p *Postgres) SetAccess(t testing.TB, rules string) {
	t.Helper()
	write(t, filepath.Join(p.dir, "data", "pg_hba.conf"), []byte(rules+"\n"))
	before := strings.Count(p.Log.String(), "reloading configuration files")
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	// Backends that start after this line has been logged know the new rules.
	for deadline := time.Now().Add(time.Minute); strings.Count(p.Log.String(), "reloading configuration files") == before; {
		if time.Now().After(deadline) {
			t.Fatal("PostgreSQL does not read its configuration again")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Exec runs a statement as superuser.
func (p *Postgres) Exec(database, statement string) error {
	return p.admin(database, func(conn *pgx.Conn) error {
		_, err := conn.Exec(context.Background(), statement)
		return err
	})
}

// Text is the result of a query for one text, as superuser.
func (p *Postgres) Text(database, query string, args ...any) (string, error) {
	var out string
	err := p.admin(database, func(conn *pgx.Conn) error { return conn.QueryRow(context.Background(), query, args...).Scan(&out) })
	return out, err
}

// admin runs work as superuser. Its connection to a tenant's database is closed at
// once: it would be in the way of a lesser administrator who deletes it.
func (p *Postgres) admin(database string, work func(*pgx.Conn) error) error {
	credentials := storage.Credentials{Password: p.Config.Password}
	if database == "postgres" {
		return p.as(p.Config.Username, database, credentials, work)
	}
	conn, err := p.connect(p.Config.Username, database, credentials)
	if err != nil {
		return err
	}
	err = work(conn)
	process := conn.PgConn().PID()
	_ = conn.Close(context.Background())
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if n, err := p.Text("postgres", `SELECT count(*)::text FROM pg_stat_activity WHERE pid = $1`, process); err != nil || n == "0" {
			break
		}
	}
	return err
}

// as runs work on a connection of its own, which is kept for the next call.
func (p *Postgres) as(user, database string, credentials storage.Credentials, work func(*pgx.Conn) error) error {
	id := user + "/" + database + "/" + credentials.Password + string(credentials.Certificate)
	conn := p.take(id)
	if conn == nil {
		var err error
		if conn, err = p.connect(user, database, credentials); err != nil {
			return err
		}
	}
	err := work(conn)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[id] = append(p.conns[id], conn)
	return err
}

// take returns an open connection that nobody uses, nil if there is none.
func (p *Postgres) take(id string) *pgx.Conn {
	for {
		p.mu.Lock()
		idle := p.conns[id]
		if len(idle) == 0 {
			p.mu.Unlock()
			return nil
		}
		conn := idle[len(idle)-1]
		p.conns[id] = idle[:len(idle)-1]
		p.mu.Unlock()
		if conn.Ping(context.Background()) == nil {
			return conn
		}
		_ = conn.Close(context.Background())
	}
}

func (p *Postgres) connect(user, database string, credentials storage.Credentials) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig("postgres://" + p.Config.Endpoints[0] + "/" + database + "?sslmode=disable&connect_timeout=5")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(p.certificate)
	config.User, config.Password = user, credentials.Password
	config.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: "127.0.0.1"}
	if len(credentials.Certificate) > 0 {
		pair, err := tls.X509KeyPair(credentials.Certificate, credentials.Key)
		if err != nil {
			return nil, err
		}
		config.TLSConfig.Certificates = []tls.Certificate{pair}
	}
	return pgx.ConnectConfig(context.Background(), config)
}

// split cuts a key of the contract into database and the rest.
func split(key string) (database, name string) {
	database, name, _ = strings.Cut(strings.TrimPrefix(key, "/"), "/")
	return database, name
}

// ExecAs runs statements as a tenant, in its database.
func (p *Postgres) ExecAs(tenant storage.Tenant, credentials storage.Credentials, statements string) error {
	return p.as(tenant.User, tenant.Schema, credentials, func(conn *pgx.Conn) error {
		_, err := conn.Exec(context.Background(), statements, pgx.QueryExecModeSimpleProtocol)
		return err
	})
}

// Put implements Store: as kine does, in a table like that of kine.
func (p *Postgres) Put(tenant storage.Tenant, credentials storage.Credentials, key, value string) error {
	database, name := split(key)
	return p.as(tenant.User, database, credentials, func(conn *pgx.Conn) error {
		put := func() error {
			_, err := conn.Exec(context.Background(), `
INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, old_value)
SELECT $1, CASE WHEN p.id IS NULL THEN 1 ELSE 0 END, 0, coalesce(CASE WHEN p.created = 1 THEN p.id ELSE p.create_revision END, 0), coalesce(p.id, 0), 0, $2, p.value
FROM (SELECT) one LEFT JOIN LATERAL (SELECT * FROM kine WHERE name = $1 ORDER BY id DESC LIMIT 1) p ON true`, "/registry/"+name, []byte(value))
			return err
		}
		err := put()
		if err != nil && strings.Contains(err.Error(), `"kine" does not exist`) {
			for _, statement := range []string{
				`CREATE TABLE IF NOT EXISTS kine (id BIGSERIAL PRIMARY KEY, name text COLLATE "C", created INTEGER, deleted INTEGER,
				create_revision BIGINT, prev_revision BIGINT, lease INTEGER, value bytea, old_value bytea)`,
				`CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON kine (name, prev_revision)`,
				`CREATE INDEX IF NOT EXISTS kine_list_query_index ON kine (name, id DESC, deleted)`,
			} {
				if _, err := conn.Exec(context.Background(), statement); err != nil {
					return err
				}
			}
			err = put()
		}
		return err
	})
}

// Value implements Store.
func (p *Postgres) Value(tenant storage.Tenant, credentials storage.Credentials, key string) (string, error) {
	database, name := split(key)
	var out []byte
	err := p.as(tenant.User, database, credentials, func(conn *pgx.Conn) error {
		return conn.QueryRow(context.Background(), `SELECT value FROM kine WHERE name = $1 ORDER BY id DESC LIMIT 1`, "/registry/"+name).Scan(&out)
	})
	return string(out), err
}

// Keys implements Store. It returns -1 when PostgreSQL does not answer.
func (p *Postgres) Keys(prefix string) int {
	database, _ := split(prefix)
	n, err := p.Text("postgres", `SELECT count(*)::text FROM pg_database WHERE datname = $1`, database)
	if err != nil {
		return -1
	}
	if n == "0" {
		return 0
	}
	if n, err = p.Text(database, `SELECT count(*)::text FROM pg_tables WHERE tablename = 'kine'`); err != nil {
		return -1
	} else if n == "0" {
		return 0
	}
	if n, err = p.Text(database, `SELECT count(DISTINCT name)::text FROM kine WHERE name LIKE '/%'`); err != nil {
		return -1
	}
	return atoi(n)
}

// atoi is -1 for what is no number.
func atoi(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return n
}
