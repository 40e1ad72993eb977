// SPDX-License-Identifier: Apache-2.0

// Package postgres stores tenants in one PostgreSQL: a database for each of them,
// owned by a role of its own that nobody else is a member of. What speaks the
// protocol of etcd to it is kine, beside the API server of the tenant.
//
// Whose a role and a database are is written in their comments. PostgreSQL 13 is
// the oldest version with all that is used here.
package postgres

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/clientcert"
)

// Name is the value of DataStore.spec.driver that selects this package.
const Name = string(kamajiv1alpha1.DriverPostgreSQL)

const (
	// adminDatabase exists in every PostgreSQL; roles and databases are made from there.
	adminDatabase = "postgres"
	// callTimeout bounds the set-up of a tenant, which is a few statements. Copying
	// the template database takes most of it.
	callTimeout = 15 * time.Second
	// dialTimeout bounds the attempt at one address.
	dialTimeout = 3 * time.Second
	// deleteTimeout bounds the deletion of a database: its files are unlinked, and a checkpoint is made.
	deleteTimeout = 60 * time.Second
	// connections is how many the engine holds at most in one DataStore.
	connections = 4
	// apartEvery is how often it is tried whether the server asks for passwords:
	// each attempt leaves a line in its log.
	apartEvery = time.Hour
)

type driver struct {
	config storage.Config
	pool   *pgxpool.Pool
	// issuer is nil for a DataStore without the private key of its authority.
	issuer *clientcert.Issuer
	// admin is the role that the engine uses.
	admin string
	// apart is when, in seconds since 1970, the server was last seen to ask for passwords.
	apart atomic.Int64
}

var _ storage.Driver = (*driver)(nil)

// Open checks the configuration and prepares a pool. It does not dial.
func Open(config storage.Config) (storage.Driver, error) {
	d := &driver{config: config, admin: config.Username}
	var err error
	if len(config.CAKey) > 0 {
		if d.issuer, err = clientcert.New(config); err != nil {
			return nil, err
		}
	}
	if d.admin == "" {
		if d.admin, err = clientcert.Administrator(config); err != nil {
			return nil, err
		}
	}
	if d.admin == "" {
		return nil, storage.Errorf(storage.ReasonInvalid, "DataStore %s: set spec.basicAuth, or a client certificate whose common name is the administrator", config.Name)
	}
	secured, err := clientcert.TLS(config)
	if err != nil {
		return nil, err
	}
	admin, err := connConfig(config, d.admin, config.Password, adminDatabase, secured)
	if err != nil {
		return nil, err
	}
	pooled, err := pgxpool.ParseConfig("postgres:///?sslmode=disable")
	if err != nil {
		return nil, invalid(config, "making a pool", err)
	}
	pooled.ConnConfig = admin
	pooled.MaxConns, pooled.MaxConnIdleTime = connections, time.Minute
	if d.pool, err = pgxpool.NewWithConfig(context.Background(), pooled); err != nil {
		return nil, invalid(config, "making a pool", err)
	}
	return d, nil
}

// address is the part of a connection string that names servers and database. Hosts
// are parameters, since several of them in the place of one make no valid URL.
func address(endpoints []string, database string) url.URL {
	var hosts, ports []string
	for _, endpoint := range endpoints {
		// Checked when the configuration was loaded.
		host, port, _ := net.SplitHostPort(endpoint)
		hosts, ports = append(hosts, host), append(ports, port)
	}
	query := url.Values{
		"host": {strings.Join(hosts, ",")}, "port": {strings.Join(ports, ",")},
		// Standby servers answer too, and refuse every write.
		"target_session_attrs": {"read-write"},
	}
	return url.URL{Scheme: "postgres", Path: "/" + database, RawQuery: query.Encode()}
}

// connConfig reaches a database as a role. Without secured it encrypts when the
// server can, and verifies nothing.
func connConfig(config storage.Config, user, password, database string, secured *tls.Config) (*pgx.ConnConfig, error) {
	to := address(config.Endpoints, database)
	if secured != nil {
		to.RawQuery += "&sslmode=disable" // replaced below
	}
	out, err := pgx.ParseConfig(to.String())
	if err != nil {
		return nil, invalid(config, "spec.endpoints", err)
	}
	out.User, out.Password, out.ConnectTimeout = user, password, dialTimeout
	// Connection poolers hand one connection to many clients, which prepared statements don't survive.
	out.DefaultQueryExecMode = pgx.QueryExecModeExec
	out.RuntimeParams["application_name"] = "kamaji"
	if secured != nil {
		out.TLSConfig = named(secured, out.Host)
		for _, f := range out.Fallbacks {
			f.TLSConfig = named(secured, f.Host)
		}
	}
	return out, nil
}

func named(config *tls.Config, host string) *tls.Config {
	config = config.Clone()
	config.ServerName = host
	return config
}

func invalid(config storage.Config, what string, err error) error {
	return &storage.Error{Reason: storage.ReasonInvalid, Message: "DataStore " + config.Name + ": " + what, Err: err}
}

// Endpoint implements storage.Driver. kine verifies the server if it has the file
// with the authority; otherwise it encrypts when the server can.
func (d *driver) Endpoint(tenant storage.Tenant, credentials storage.Credentials) string {
	to := address(d.config.Endpoints, tenant.Schema)
	to.User = url.UserPassword(tenant.User, credentials.Password)
	return to.String()
}

// Close implements storage.Driver.
func (d *driver) Close() error {
	d.pool.Close()
	return nil
}

// Credentials implements storage.Driver.
func (d *driver) Credentials(tenant storage.Tenant, current storage.Credentials, now time.Time) (storage.Credentials, error) {
	if err := d.admissible(tenant); err != nil {
		return storage.Credentials{}, err
	}
	if current.Password == "" {
		current.Password = storage.NewPassword()
	}
	if d.issuer != nil {
		return d.issuer.Renew(tenant, current, now)
	}
	current.CA, current.Certificate, current.Key = d.config.CA, nil, nil
	return current, nil
}

// Probe implements storage.Driver.
func (d *driver) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var able bool
	err := d.pool.QueryRow(ctx, `SELECT rolsuper OR (rolcreaterole AND rolcreatedb) FROM pg_catalog.pg_roles WHERE rolname = current_user`).Scan(&able)
	if err != nil {
		return d.explain(err, "reading the administrator's rights")
	}
	if !able {
		return storage.Errorf(storage.ReasonPermissionDenied,
			"PostgreSQL of DataStore %s: role %q needs CREATEROLE and CREATEDB: ALTER ROLE %s CREATEROLE CREATEDB",
			d.config.Name, d.admin, quoted(d.admin))
	}
	return d.askApart(ctx)
}

// askApart connects with a role that doesn't exist: a server that notices only
// that, and not that the password is wrong, asks nobody for one.
func (d *driver) askApart(ctx context.Context) error {
	if time.Since(time.Unix(d.apart.Load(), 0)) < apartEvery {
		return nil
	}
	config := d.pool.Config().ConnConfig
	config.User, config.Password = "kamaji-nobody", storage.NewPassword()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err == nil {
		_ = conn.Close(ctx)
	}
	if err == nil || routine(err) == "InitializeSessionUserId" {
		return storage.Errorf(storage.ReasonAuthDisabled,
			"PostgreSQL of DataStore %s lets roles in without a password, so every tenant could read every other: change method trust to scram-sha-256 in its pg_hba.conf", d.config.Name)
	}
	if code(err) == "" {
		return d.explain(err, "connecting with a wrong password")
	}
	d.apart.Store(time.Now().Unix())
	return nil
}
