// SPDX-License-Identifier: Apache-2.0

// Package mysql stores tenants in one MySQL or MariaDB: a database for each of
// them, and a user who has all rights there and none elsewhere. What speaks the
// protocol of etcd to it is kine, beside the API server of the tenant.
//
// Neither of the two can note on a user whose it is, so that is kept in a table of
// a database of its own.
package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/clientcert"
)

// Name is the value of DataStore.spec.driver that selects this package.
const Name = string(kamajiv1alpha1.DriverMySQL)

const (
	// callTimeout bounds the set-up of a tenant, which is a few statements.
	callTimeout = 15 * time.Second
	// dialTimeout bounds the attempt at one address.
	dialTimeout = 3 * time.Second
	// deleteTimeout bounds the deletion of a database.
	deleteTimeout = 60 * time.Second
	// connections is how many the engine holds at most in one DataStore.
	connections = 4
)

type store struct {
	config storage.Config
	db     *sql.DB
	// issuer is nil for a DataStore without the private key of its authority.
	issuer *clientcert.Issuer
	// admin is the user that the engine uses.
	admin string
}

var _ storage.Driver = (*store)(nil)

// Open checks the configuration and prepares a pool. It does not dial.
func Open(config storage.Config) (storage.Driver, error) {
	s := &store{config: config, admin: config.Username}
	var err error
	if len(config.CAKey) > 0 {
		if s.issuer, err = clientcert.New(config); err != nil {
			return nil, err
		}
	}
	if s.admin == "" {
		// Such an account has no password, but REQUIRE SUBJECT.
		if s.admin, err = clientcert.Administrator(config); err != nil {
			return nil, err
		}
	}
	if s.admin == "" {
		return nil, storage.Errorf(storage.ReasonInvalid, "DataStore %s: set spec.basicAuth, or a client certificate whose common name is the administrator", config.Name)
	}
	servers, err := dialers(config, s.admin, config.Password, "")
	if err != nil {
		return nil, err
	}
	s.db = sql.OpenDB(servers)
	s.db.SetMaxOpenConns(connections)
	s.db.SetConnMaxIdleTime(time.Minute)
	return s, nil
}

// members connects to the first of several servers that takes writes.
type members []driver.Connector

// dialers are the servers of the DataStore, for one user and database. Without an
// authority the connection is encrypted when the server can, and not verified.
func dialers(config storage.Config, user, password, database string) (members, error) {
	secured, err := clientcert.TLS(config)
	if err != nil {
		return nil, err
	}
	var out members
	for _, endpoint := range config.Endpoints {
		c := mysql.NewConfig()
		c.User, c.Passwd, c.DBName, c.Net, c.Addr = user, password, database, "tcp", endpoint
		c.Timeout, c.ReadTimeout, c.WriteTimeout = dialTimeout, deleteTimeout, deleteTimeout
		// Its errors are returned, and reported once.
		c.Logger = &mysql.NopLogger{}
		c.InterpolateParams = true
		if secured != nil {
			c.TLS = secured.Clone()
		} else {
			c.TLSConfig = "preferred"
		}
		connector, err := mysql.NewConnector(c)
		if err != nil {
			return nil, &storage.Error{Reason: storage.ReasonInvalid, Message: "DataStore " + config.Name + ": spec.endpoints", Err: err}
		}
		out = append(out, connector)
	}
	return out, nil
}

// errReadOnly is what a standby server is passed over for.
var errReadOnly = errors.New("the server takes no writes (read_only is on)")

// Connect implements driver.Connector.
func (m members) Connect(ctx context.Context) (driver.Conn, error) {
	var failed []error
	for _, connector := range m {
		conn, err := connector.Connect(ctx)
		if err == nil {
			if err = writable(ctx, conn); err == nil {
				return conn, nil
			}
			_ = conn.Close()
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// Driver implements driver.Connector.
func (m members) Driver() driver.Driver { return mysql.MySQLDriver{} }

func writable(ctx context.Context, conn driver.Conn) error {
	rows, err := conn.(driver.QueryerContext).QueryContext(ctx, "SELECT @@global.read_only", nil)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	value := make([]driver.Value, 1)
	if err := rows.Next(value); err != nil {
		return err
	}
	if text := fmt.Sprintf("%s", value[0]); text != "0" && text != "%!s(int64=0)" && text != "OFF" {
		return errReadOnly
	}
	return nil
}

// Close implements storage.Driver.
func (s *store) Close() error {
	if err := s.db.Close(); err != nil {
		return &storage.Error{Reason: storage.ReasonInternal, Message: "closing the connections", Err: err}
	}
	return nil
}

// Credentials implements storage.Driver.
func (s *store) Credentials(tenant storage.Tenant, current storage.Credentials, now time.Time) (storage.Credentials, error) {
	if err := s.admissible(tenant); err != nil {
		return storage.Credentials{}, err
	}
	if current.Password == "" {
		current.Password = storage.NewPassword()
	}
	if s.issuer != nil {
		return s.issuer.Renew(tenant, current, now)
	}
	current.CA, current.Certificate, current.Key = s.config.CA, nil, nil
	return current, nil
}

// Endpoint implements storage.Driver. kine takes one address, which is the first:
// with several servers it should be one that follows the primary.
func (s *store) Endpoint(tenant storage.Tenant, credentials storage.Credentials) string {
	dsn := mysql.NewConfig()
	dsn.User, dsn.Passwd, dsn.DBName, dsn.Net, dsn.Addr = tenant.User, credentials.Password, tenant.Schema, "tcp", s.config.Endpoints[0]
	if len(s.config.CA) == 0 {
		dsn.TLSConfig = "preferred"
	}
	return "mysql://" + dsn.FormatDSN()
}

// Probe implements storage.Driver.
func (s *store) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	lines, err := s.grants(ctx, "")
	if err != nil {
		return s.explain(err, "reading the administrator's rights")
	}
	able := false
	for _, line := range lines {
		// The rights of a role are not listed; then only the attempt tells.
		able = able || !strings.Contains(line, " ON ") || strings.Contains(line, " ON *.* ") && strings.Contains(line, "GRANT OPTION")
	}
	if !able {
		return storage.Errorf(storage.ReasonPermissionDenied,
			"MySQL of DataStore %s: user %q needs all privileges on *.* WITH GRANT OPTION", s.config.Name, s.admin)
	}
	stranger, err := dialers(s.config, "kamaji-nobody", storage.NewPassword(), "")
	if err != nil {
		return err
	}
	conn, err := stranger.Connect(ctx)
	if err == nil {
		_ = conn.Close()
		return storage.Errorf(storage.ReasonAuthDisabled,
			"MySQL of DataStore %s lets anybody in, so every tenant could read every other: is skip_grant_tables on?", s.config.Name)
	}
	return nil
}

// Error numbers of the server that decide something here.
const (
	errAccessDenied   = 1045
	errAccountLocked  = 3118
	errAccountLocked2 = 4151 // MariaDB
	errNoDatabase     = 1049
	errNoTable        = 1146
	errDuplicate      = 1062
	errTooLong        = 1470
	errNoGrants       = 1141
)

func number(err error) uint16 {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number
	}
	return 0
}

// explain turns what the client returned into an error with a reason.
func (s *store) explain(err error, doing string) error {
	if known, ok := errors.AsType[*storage.Error](err); ok {
		return known
	}
	reason := storage.ReasonInternal
	switch n := number(err); {
	case storage.IsTLS(err), errors.Is(err, mysql.ErrNoTLS):
		reason = storage.ReasonTLSFailed
	case n == errAccessDenied, n == 1044, n == 1142, n == 1227, n == 1410:
		reason = storage.ReasonPermissionDenied
	case n == errTooLong:
		reason = storage.ReasonInvalid
	// Too many connections, shutting down, read-only.
	case n == 1040, n == 1053, n == 1290, n == 1836, n == 0 && !errors.Is(err, context.Canceled):
		reason = storage.ReasonUnreachable
	}
	return &storage.Error{Reason: reason, Message: "MySQL of DataStore " + s.config.Name + ": " + doing, Err: err}
}
