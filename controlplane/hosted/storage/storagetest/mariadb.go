// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

// MariaDB is a real MariaDB with TLS and passwords, on loopback.
type MariaDB struct {
	// Config reaches it as user operator.
	Config storage.Config
	Authority
	dir string
	cmd *exec.Cmd

	mu sync.Mutex
	// pools keep the connections of tenants, as kine does.
	pools map[string]*sql.DB
}

// StartMariaDB runs MariaDB until the test ends.
func StartMariaDB(t testing.TB) *MariaDB {
	t.Helper()
	server := program(t, "/usr/sbin/mariadbd", "mariadb-server-core")
	m := &MariaDB{Authority: NewAuthority(t), dir: owned(t), pools: map[string]*sql.DB{}}
	data := filepath.Join(m.dir, "data")
	install := command(m.dir, "/usr/bin/mariadb-install-db", "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
	if printed, err := install.CombinedOutput(); err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, printed)
	}
	certificate, key := m.Certificate(t, "mariadb-server")
	password := storage.NewPassword()
	begin := "CREATE USER 'operator'@'%' IDENTIFIED BY '" + password + "';\nGRANT ALL PRIVILEGES ON *.* TO 'operator'@'%' WITH GRANT OPTION;\n"
	for name, content := range map[string][]byte{"ca.crt": m.CA, "server.crt": certificate, "server.key": key, "begin.sql": []byte(begin)} {
		write(t, filepath.Join(m.dir, name), content)
	}
	port, out := freePort(t), &log{}
	m.cmd = command(m.dir, server, "--no-defaults", "--datadir="+data, "--bind-address=127.0.0.1", "--port="+port, "--socket="+filepath.Join(m.dir, "socket"),
		"--pid-file="+filepath.Join(m.dir, "pid"), "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M",
		"--ssl-ca="+filepath.Join(m.dir, "ca.crt"), "--ssl-cert="+filepath.Join(m.dir, "server.crt"), "--ssl-key="+filepath.Join(m.dir, "server.key"),
		"--require-secure-transport=ON", "--general-log", "--general-log-file="+filepath.Join(m.dir, "statements"), "--init-file="+filepath.Join(m.dir, "begin.sql"))
	m.cmd.Stderr = out
	if err := m.cmd.Start(); err != nil {
		t.Fatalf("starting mariadbd: %v", err)
	}
	t.Cleanup(func() {
		for _, pool := range m.pools {
			_ = pool.Close()
		}
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		if t.Failed() {
			t.Logf("mariadbd: %s", out.Tail())
		}
	})
	m.Config = storage.Config{Name: "test", Driver: "MySQL", Endpoints: []string{"127.0.0.1:" + port}, CA: m.CA, Username: "operator", Password: password}
	for deadline := time.Now().Add(10 * time.Second); ; {
		err := m.Exec("DO 0")
		if err == nil {
			return m
		}
		if time.Now().After(deadline) {
			t.Fatalf("MariaDB does not answer: %v\n%s", err, out)
		}
	}
}

// connect makes a pool, to be closed by the caller.
func (m *MariaDB) connect(user, password, database string) (*sql.DB, error) {
	roots := x509.NewCertPool()
	roots.AddCert(m.certificate)
	c := mysql.NewConfig()
	c.User, c.Passwd, c.DBName, c.Net, c.Addr, c.Timeout = user, password, database, "tcp", m.Config.Endpoints[0], 5*time.Second
	c.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	c.Logger, c.InterpolateParams = &mysql.NopLogger{}, true
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// as returns the connections of a tenant to a database.
func (m *MariaDB) as(tenant storage.Tenant, credentials storage.Credentials, database string) (*sql.DB, error) {
	id := tenant.User + "/" + database + "/" + credentials.Password
	m.mu.Lock()
	defer m.mu.Unlock()
	if pool, ok := m.pools[id]; ok {
		return pool, nil
	}
	pool, err := m.connect(tenant.User, credentials.Password, database)
	if err != nil {
		return nil, err
	}
	pool.SetMaxIdleConns(16)
	m.pools[id] = pool
	return pool, nil
}

// Exec runs a statement as operator.
func (m *MariaDB) Exec(statement string) error {
	db, err := m.connect(m.Config.Username, m.Config.Password, "")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(context.Background(), statement)
	return err
}

func (m *MariaDB) text(database, query string, args ...any) (string, error) {
	db, err := m.connect(m.Config.Username, m.Config.Password, database)
	if err != nil {
		return "", err
	}
	defer func() { _ = db.Close() }()
	var out sql.NullString
	err = db.QueryRowContext(context.Background(), query, args...).Scan(&out)
	return out.String, err
}

// Left lists databases, users and records that are not the server's own.
func (m *MariaDB) Left(t testing.TB) string {
	t.Helper()
	var out []string
	for _, query := range []string{
		"SELECT group_concat(schema_name SEPARATOR ' ') FROM information_schema.schemata WHERE schema_name NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema', 'kamaji-clastix-io')",
		"SELECT group_concat(user SEPARATOR ' ') FROM mysql.user WHERE user NOT IN ('root', 'operator', 'mariadb.sys', 'PUBLIC', 'anything')",
		"SELECT group_concat(name SEPARATOR ' ') FROM `kamaji-clastix-io`.tenants",
	} {
		text, err := m.text("", query)
		if err != nil && !strings.Contains(err.Error(), "doesn't exist") {
			t.Fatal(err)
		}
		if text != "" {
			out = append(out, text+" ")
		}
	}
	return strings.Join(out, "; ")
}

// Statements is the general log.
func (m *MariaDB) Statements(t testing.TB) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(m.dir, "statements"))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// Put implements Store: as kine does, in a table like that of kine.
func (m *MariaDB) Put(tenant storage.Tenant, credentials storage.Credentials, key, value string) error {
	database, name := split(key)
	db, err := m.as(tenant, credentials, database)
	if err != nil {
		return err
	}
	ctx := context.Background()
	put := func() error {
		name := "/registry/" + name
		_, err := db.ExecContext(ctx, `
INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, old_value)
SELECT ?, IF(p.id IS NULL, 1, 0), 0, coalesce(IF(p.created = 1, p.id, p.create_revision), 0), coalesce(p.id, 0), 0, ?, p.value
FROM (SELECT 1) AS one LEFT JOIN (SELECT * FROM kine WHERE name = ? ORDER BY id DESC LIMIT 1) AS p ON true`, name, []byte(value), name)
		return err
	}
	err = put()
	if err != nil && strings.Contains(err.Error(), "doesn't exist") {
		_, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS kine (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(630) CHARACTER SET ascii,
created INTEGER, deleted INTEGER, create_revision BIGINT UNSIGNED, prev_revision BIGINT UNSIGNED, lease INTEGER, value MEDIUMBLOB, old_value MEDIUMBLOB,
INDEX kine_name_id_index (name, id), UNIQUE INDEX kine_name_prev_revision_uindex (name, prev_revision))`)
		if err != nil {
			return err
		}
		return put()
	}
	return err
}

// Value implements Store.
func (m *MariaDB) Value(tenant storage.Tenant, credentials storage.Credentials, key string) (string, error) {
	database, name := split(key)
	db, err := m.as(tenant, credentials, database)
	if err != nil {
		return "", err
	}
	var out string
	err = db.QueryRowContext(context.Background(), "SELECT value FROM kine WHERE name = ? ORDER BY id DESC LIMIT 1", "/registry/"+name).Scan(&out)
	return out, err
}

// Keys implements Store. It returns -1 when MariaDB does not answer.
func (m *MariaDB) Keys(prefix string) int {
	database, _ := split(prefix)
	n, err := m.text("", "SELECT count(*) FROM information_schema.tables WHERE table_schema = ? AND table_name = 'kine'", database)
	if err != nil {
		return -1
	}
	if n == "0" {
		return 0
	}
	if n, err = m.text(database, "SELECT count(DISTINCT name) FROM kine WHERE name LIKE '/%'"); err != nil {
		return -1
	}
	return atoi(n)
}
