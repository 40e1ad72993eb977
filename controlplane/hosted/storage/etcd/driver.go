// SPDX-License-Identifier: Apache-2.0

// Package etcd stores tenants in one etcd cluster: a user, a role and the key
// prefix /<schema>/ for each of them. A tenant proves who it is by a client
// certificate whose common name is its user, so no password exists.
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/clientcert"
)

// Name is the value of DataStore.spec.driver that selects this package.
const Name = string(kamajiv1alpha1.DriverEtcd)

const (
	// callTimeout bounds one administrative step, which is a few Raft commits.
	// A healthy etcd needs milliseconds; leader election takes about a second.
	callTimeout = 5 * time.Second
	// deleteTimeout bounds the deletion of a tenant's keys. What is not done by
	// then is continued by the next call.
	deleteTimeout = 60 * time.Second
	// keepAlive finds dead peers while no call is in flight, so that the first
	// call after a network failure does not have to.
	keepAlive = 30 * time.Second
)

// rootUser and rootRole are fixed by etcd: authentication cannot be enabled
// without a user and a role of that name.
const (
	rootUser = "root"
	rootRole = "root"
)

type driver struct {
	config storage.Config
	tls    *tls.Config
	client *clientv3.Client
	issuer *clientcert.Issuer
	// admin is the common name of the administrator's certificate, which etcd
	// takes for its user name.
	admin string
}

var _ storage.Driver = (*driver)(nil)

// Open checks the configuration and prepares a client. It does not dial. The
// CA key is needed because tenants' certificates are signed with it.
func Open(config storage.Config) (storage.Driver, error) {
	issuer, err := clientcert.New(config)
	if err != nil {
		return nil, err
	}
	admin, err := clientcert.Administrator(config)
	if err != nil {
		return nil, err
	}
	if admin == "" {
		return nil, storage.Errorf(storage.ReasonInvalid, "DataStore %s: the client certificate is missing", config.Name)
	}
	tlsConfig, err := clientcert.TLS(config)
	if err != nil {
		return nil, err
	}

	endpoints := make([]string, 0, len(config.Endpoints))
	for _, e := range config.Endpoints {
		endpoints = append(endpoints, "https://"+e)
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            endpoints,
		DialTimeout:          callTimeout,
		DialKeepAliveTime:    keepAlive,
		DialKeepAliveTimeout: callTimeout,
		TLS:                  tlsConfig.Clone(),
		// Failures are returned and reported once, by the caller.
		Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, &storage.Error{Reason: storage.ReasonInvalid, Message: "DataStore " + config.Name + ": making an etcd client", Err: err}
	}
	return &driver{config: config, tls: tlsConfig, client: client, issuer: issuer, admin: admin}, nil
}

// Credentials implements storage.Driver.
func (d *driver) Credentials(tenant storage.Tenant, current storage.Credentials, now time.Time) (storage.Credentials, error) {
	if err := d.admissible(tenant); err != nil {
		return storage.Credentials{}, err
	}
	return d.issuer.Renew(tenant, current, now)
}

// Endpoint implements storage.Driver: there is no shim.
func (d *driver) Endpoint(storage.Tenant, storage.Credentials) string { return "" }

// Close implements storage.Driver.
func (d *driver) Close() error {
	if err := d.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return &storage.Error{Reason: storage.ReasonInternal, Message: "closing the etcd client", Err: err}
	}
	return nil
}

// Probe implements storage.Driver. One call does all of it: AuthStatus goes
// through Raft, so it needs a quorum, and once authentication is enabled only
// administrators may make it.
func (d *driver) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	status, err := d.client.AuthStatus(ctx)
	if err != nil {
		return d.explain(err, "reading the authentication status")
	}
	if status.Enabled {
		return nil
	}
	if !d.config.EnableAuth {
		return storage.Errorf(storage.ReasonAuthDisabled,
			"etcd %s: authentication is disabled, so every tenant could read every other; enable it, or let this controller do so by the annotation %s=\"true\" on DataStore %s",
			d.config.Endpoints[0], kamajiv1alpha1.EnableEtcdAuthAnnotation, d.config.Name)
	}
	return d.enableAuth(ctx)
}

// enableAuth makes the users that may administrate, then turns authentication
// on. The administrator's own certificate decides the name that must keep
// access, otherwise this very call would lock the driver out.
func (d *driver) enableAuth(ctx context.Context) error {
	if _, err := d.client.RoleAdd(ctx, rootRole); err != nil && !errors.Is(err, rpctypes.ErrRoleAlreadyExist) {
		return d.explain(err, "adding role "+rootRole)
	}
	users := []string{rootUser}
	if d.admin != rootUser {
		users = append(users, d.admin)
	}
	for _, user := range users {
		if err := d.ensureUser(ctx, user, rootRole); err != nil {
			return err
		}
	}
	if _, err := d.client.AuthEnable(ctx); err != nil {
		return d.explain(err, "enabling authentication")
	}
	return nil
}
