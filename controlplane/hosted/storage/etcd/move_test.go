// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/etcd"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
)

// secured is an etcd with authentication on, and a driver for it.
func secured(t *testing.T) (*storagetest.Etcd, storage.Mover) {
	t.Helper()
	server := storagetest.StartEtcd(t)
	config := server.Config
	config.EnableAuth = true
	driver, ok := open(t, config).(storage.Mover)
	if !ok {
		t.Fatal("the driver is no Mover")
	}
	if err := driver.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	return server, driver
}

func TestMoverContract(t *testing.T) {
	from, source := secured(t)
	to, target := secured(t)
	storagetest.RunMover(t, storagetest.MoveHarness{
		Source: storagetest.Harness{Driver: source, Store: from}, Target: storagetest.Harness{Driver: target, Store: to},
	})
}

// Events have a lease. Their copies expire too, and what has expired meanwhile breaks no seal.
func TestLeases(t *testing.T) {
	from, source := secured(t)
	to, target := secured(t)
	tn := storage.Tenant{Owner: "a/b", Schema: "s", User: "u"}
	admin, other := from.Client(t, from.Config.Certificate, from.Config.Key), to.Client(t, to.Config.Certificate, to.Config.Key)
	for _, m := range []storage.Mover{source, target} {
		if err := m.EnsureTenant(t.Context(), tn, storage.Credentials{}); err != nil {
			t.Fatal(err)
		}
	}
	put := func(key string, life int64) clientv3.LeaseID {
		lease, err := admin.Grant(t.Context(), life)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := admin.Put(t.Context(), "/s/"+key, key, clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
		return lease.ID
	}
	long, short := put("long", 3600), put("short", 3600)
	if _, err := admin.Put(t.Context(), "/s/stays", "1"); err != nil {
		t.Fatal(err)
	}
	seal, err := source.Freeze(t.Context(), tn, "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Revoke(t.Context(), short); err != nil {
		t.Fatal(err)
	}
	if again, err := source.Freeze(t.Context(), tn, "x"); err != nil || again != seal {
		t.Errorf("seal %q became %q, %v", seal, again, err)
	}
	if _, err := target.Freeze(t.Context(), tn, "x"); err != nil {
		t.Fatal(err)
	}
	page, err := source.Page(t.Context(), tn, "", 10)
	if err != nil || len(page.Entries) != 2 || page.Entries[0].Key != "long" || page.Entries[0].TTL < 50*time.Minute || page.Entries[1].TTL != 0 {
		t.Fatalf("page %+v, %v", page, err)
	}
	if err := target.Import(t.Context(), tn, "x", page.Entries); err != nil {
		t.Fatal(err)
	}
	got, err := other.Get(t.Context(), "/s/long")
	if err != nil || len(got.Kvs) != 1 || got.Kvs[0].Lease == 0 {
		t.Fatalf("the copy of lease %x: %v, %v", long, got, err)
	}
	left, err := other.TimeToLive(t.Context(), clientv3.LeaseID(got.Kvs[0].Lease))
	if err != nil || left.TTL < 3000 || left.TTL > 3600 {
		t.Errorf("the copy lives for %v, %v", left, err)
	}
}

// One step too far is refused before anything is written.
func TestRaiseRefusesTheImpossible(t *testing.T) {
	_, m := secured(t)
	tn := storage.Tenant{Owner: "a/b", Schema: "s", User: "u"}
	before, err := m.Position(t.Context(), tn)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Raise(t.Context(), tn, before.Revision+100_000_000); storage.ReasonOf(err) != storage.ReasonInvalid {
		t.Errorf("100 million revisions: %v", err)
	}
	after, err := m.Position(t.Context(), tn)
	if err != nil || after.Revision != before.Revision {
		t.Errorf("the revision went from %d to %d, %v", before.Revision, after.Revision, err)
	}
}

// BenchmarkRaise tells how long a tenant's target takes to get ahead of its source.
func BenchmarkRaise(b *testing.B) {
	server := storagetest.StartEtcd(b)
	opened, err := etcd.Open(server.Config)
	if err != nil {
		b.Fatal(err)
	}
	driver := opened.(storage.Mover)
	at, err := driver.Position(context.Background(), storage.Tenant{})
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	if err := driver.Raise(context.Background(), storage.Tenant{}, at.Revision+int64(b.N)); err != nil {
		b.Fatal(err)
	}
}
