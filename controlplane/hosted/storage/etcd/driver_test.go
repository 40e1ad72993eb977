// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/etcd"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
)

func open(t *testing.T, config storage.Config) storage.Driver {
	t.Helper()
	driver, err := etcd.Open(config)
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

// must makes a damage out of an administrator's call.
func must[R any](call func(context.Context, storage.Tenant) (R, error)) func(*testing.T, storage.Tenant) {
	return func(t *testing.T, tenant storage.Tenant) {
		if _, err := call(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
	}
}

func TestContract(t *testing.T) {
	server := storagetest.StartEtcd(t)
	config := server.Config

	if err := open(t, config).Probe(t.Context()); storage.ReasonOf(err) != storage.ReasonAuthDisabled {
		t.Fatalf("authentication is off: want %s, got %v", storage.ReasonAuthDisabled, err)
	}
	config.EnableAuth = true
	driver := open(t, config)
	if err := driver.Probe(t.Context()); err != nil {
		t.Fatalf("enabling authentication: %v", err)
	}

	admin := server.Client(t, config.Certificate, config.Key)
	storagetest.Run(t, storagetest.Harness{
		Driver: driver, Store: server,
		Damage: map[string]func(*testing.T, storage.Tenant){
			"role lost": must(func(ctx context.Context, tn storage.Tenant) (*clientv3.AuthRoleDeleteResponse, error) {
				return admin.RoleDelete(ctx, tn.Schema)
			}),
			"user lost": must(func(ctx context.Context, tn storage.Tenant) (*clientv3.AuthUserDeleteResponse, error) {
				return admin.UserDelete(ctx, tn.User)
			}),
			"role not granted": must(func(ctx context.Context, tn storage.Tenant) (*clientv3.AuthUserRevokeRoleResponse, error) {
				return admin.UserRevokeRole(ctx, tn.User, tn.Schema)
			}),
			"permission lost": must(func(ctx context.Context, tn storage.Tenant) (*clientv3.AuthRoleRevokePermissionResponse, error) {
				return admin.RoleRevokePermission(ctx, tn.Schema, "/"+tn.Schema+"/", "/"+tn.Schema+"0")
			}),
			"permission widened": must(func(ctx context.Context, tn storage.Tenant) (*clientv3.AuthRoleGrantPermissionResponse, error) {
				return admin.RoleGrantPermission(ctx, tn.Schema, "/", "0", clientv3.PermissionType(clientv3.PermReadWrite))
			}),
			"root granted": must(func(ctx context.Context, tn storage.Tenant) (*clientv3.AuthUserGrantRoleResponse, error) {
				return admin.UserGrantRole(ctx, tn.User, "root")
			}),
			"claims lost": must(func(ctx context.Context, _ storage.Tenant) (*clientv3.DeleteResponse, error) {
				return admin.Delete(ctx, "kamaji.clastix.io/", clientv3.WithPrefix())
			}),
		},
	})

	users, err := admin.UserList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	roles, err := admin.RoleList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(users.Users, " ") != "root" || strings.Join(roles.Roles, " ") != "root" {
		t.Errorf("after all tenants are gone: users %v, roles %v", users.Users, roles.Roles)
	}
	if n := server.Keys("kamaji.clastix.io/"); n != 0 {
		t.Errorf("%d claims are left", n)
	}
}

// An administrator that is not called root must not lock itself out.
func TestEnableAuthKeepsAccess(t *testing.T) {
	server := storagetest.StartEtcd(t)
	config := server.Config
	config.EnableAuth = true
	config.Certificate, config.Key = server.Certificate(t, "operator")
	driver := open(t, config)
	for range 2 {
		if err := driver.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := driver.EnsureTenant(t.Context(), storage.Tenant{Owner: "a/b", Schema: "s", User: "u"}, storage.Credentials{}); err != nil {
		t.Fatal(err)
	}
}

func TestProbeReasons(t *testing.T) {
	server := storagetest.StartEtcd(t)
	stranger := storagetest.StartEtcd(t)
	config := server.Config
	config.EnableAuth = true
	if err := open(t, config).Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	nobody := config
	nobody.Certificate, nobody.Key = server.Certificate(t, "nobody")
	foreignCA := config
	foreignCA.CA, foreignCA.CAKey = stranger.Config.CA, stranger.Config.CAKey
	foreignClient := config
	foreignClient.Certificate, foreignClient.Key = stranger.Config.Certificate, stranger.Config.Key
	stranger.Stop()
	gone := stranger.Config

	for name, c := range map[string]struct {
		config storage.Config
		want   storage.Reason
	}{
		"certificate of no administrator":      {nobody, storage.ReasonPermissionDenied},
		"the server's certificate is foreign":  {foreignCA, storage.ReasonTLSFailed},
		"our certificate is foreign to server": {foreignClient, storage.ReasonTLSFailed},
		"nobody listens":                       {gone, storage.ReasonUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := open(t, c.config).Probe(t.Context())
			if storage.ReasonOf(err) != c.want {
				t.Errorf("want %s, got %s: %v", c.want, storage.ReasonOf(err), err)
			}
		})
	}
}

func TestOpenRejects(t *testing.T) {
	server := storagetest.StartEtcd(t)
	for name, damage := range map[string]func(*storage.Config){
		"no CA":                 func(c *storage.Config) { c.CA = nil },
		"CA key of another":     func(c *storage.Config) { c.CAKey = c.Key },
		"no client key":         func(c *storage.Config) { c.Key = nil },
		"garbage in client key": func(c *storage.Config) { c.Key = []byte("x") },
	} {
		t.Run(name, func(t *testing.T) {
			config := server.Config
			damage(&config)
			if _, err := etcd.Open(config); storage.ReasonOf(err) != storage.ReasonInvalid {
				t.Errorf("want %s, got %v", storage.ReasonInvalid, err)
			}
		})
	}
}

// The administrator's name is not always root, so no list of names can keep a tenant from asking for it.
func TestTenantIsNotTheAdministrator(t *testing.T) {
	server := storagetest.StartEtcd(t)
	config := server.Config
	config.EnableAuth = true
	config.Certificate, config.Key = server.Certificate(t, "etcd-admin")
	driver := open(t, config)
	if err := driver.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []storage.Tenant{
		{Owner: "ns/evil", Schema: "evil", User: "etcd-admin"}, {Owner: "ns/evil", Schema: "etcd-admin", User: "evil"},
	} {
		if err := driver.EnsureTenant(t.Context(), tenant, storage.Credentials{}); storage.ReasonOf(err) != storage.ReasonInvalid {
			t.Errorf("setting up %v: %v", tenant, err)
		}
		if err := driver.DeleteTenant(t.Context(), tenant); storage.ReasonOf(err) != storage.ReasonInvalid {
			t.Errorf("deleting %v: %v", tenant, err)
		}
		if _, err := driver.Credentials(tenant, storage.Credentials{}, time.Now()); storage.ReasonOf(err) != storage.ReasonInvalid {
			t.Errorf("a certificate for %v: %v", tenant, err)
		}
	}
	if err := driver.Probe(t.Context()); err != nil {
		t.Errorf("the administrator lost its rights: %v", err)
	}
}
