// SPDX-License-Identifier: Apache-2.0

package fake_test

import (
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/fake"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
)

func TestContract(t *testing.T) {
	store := &fake.Store{}
	driver, err := store.Open(storage.Config{})
	if err != nil {
		t.Fatal(err)
	}
	storagetest.Run(t, storagetest.Harness{
		Driver: driver, Store: store,
		Damage: map[string]func(*testing.T, storage.Tenant){
			"grant lost": func(_ *testing.T, tenant storage.Tenant) { store.Revoke(tenant.User) },
		},
	})
}

func TestMoverContract(t *testing.T) {
	side := func() storagetest.Harness {
		store := &fake.Store{}
		driver, err := store.Open(storage.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return storagetest.Harness{Driver: driver, Store: store}
	}
	storagetest.RunMover(t, storagetest.MoveHarness{Source: side(), Target: side()})
}
