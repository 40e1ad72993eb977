// SPDX-License-Identifier: Apache-2.0

package clientcert_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/clientcert"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/etcd"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
)

// One certificate for two etcds that trust different authorities.
func TestShared(t *testing.T) {
	servers := []*storagetest.Etcd{storagetest.StartEtcd(t), storagetest.StartEtcd(t)}
	stranger := storagetest.NewAuthority(t)
	tenant, now := storage.Tenant{Owner: "ns/a", Schema: "schema", User: "user"}, time.Now()
	var configs []storage.Config
	for _, server := range servers {
		config := server.Config
		config.EnableAuth = true
		configs = append(configs, config)
	}
	credentials, err := clientcert.Shared(tenant, storage.Credentials{}, now, configs...)
	if err != nil {
		t.Fatal(err)
	}
	for i, server := range servers {
		driver, err := etcd.Open(configs[i])
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = driver.Close() }()
		if err := driver.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := driver.EnsureTenant(t.Context(), tenant, credentials); err != nil {
			t.Fatal(err)
		}
		if err := server.Put(tenant, credentials, "/schema/a", "1"); err != nil {
			t.Errorf("etcd %d: %v", i, err)
		}
		if err := server.Put(tenant, credentials, "/other/a", "1"); err == nil {
			t.Errorf("etcd %d lets the tenant write elsewhere", i)
		}
	}
	same, err := clientcert.Shared(tenant, credentials, now.Add(24*time.Hour), configs...)
	if err != nil || !cmp.Equal(credentials, same) {
		t.Errorf("a day later other credentials, %v", err)
	}
	renewed, err := clientcert.Shared(tenant, credentials, now.Add(300*24*time.Hour), configs...)
	if err != nil || cmp.Equal(credentials.Certificate, renewed.Certificate) {
		t.Errorf("not renewed in the last third of the life, %v", err)
	}
	other := configs[1]
	other.CA, other.CAKey = stranger.CA, stranger.CAKey
	changed, err := clientcert.Shared(tenant, credentials, now, configs[0], other)
	if err != nil || cmp.Equal(credentials.Certificate, changed.Certificate) {
		t.Errorf("another authority, the same certificate, %v", err)
	}
	single, err := clientcert.Shared(tenant, storage.Credentials{}, now, configs[0], configs[0])
	if err != nil || !cmp.Equal(single.CA, configs[0].CA) {
		t.Errorf("one authority only: %v", err)
	}
}
