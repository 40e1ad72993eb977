// SPDX-License-Identifier: Apache-2.0

package migration_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/migration"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/etcd"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/mysql"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/nats"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/postgres"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
)

// kind is a driver with two stores of it.
type kind struct {
	name   string
	stores [2]storage.Mover
	// servers are those of etcd, which needs no shim.
	servers [2]*storagetest.Etcd
}

func kinds(t *testing.T) []kind {
	t.Helper()
	moverOf := func(open storage.Opener, config storage.Config) storage.Mover {
		driver, err := open(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = driver.Close() })
		if err := driver.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		return driver.(storage.Mover)
	}
	out := []kind{{name: "etcd"}, {name: "postgres"}, {name: "mysql"}, {name: "nats"}}
	for i := range 2 {
		server := storagetest.StartEtcd(t)
		config := server.Config
		config.EnableAuth = true
		out[0].servers[i], out[0].stores[i] = server, moverOf(etcd.Open, config)
		out[1].stores[i] = moverOf(postgres.Open, storagetest.StartPostgres(t).Config)
		out[2].stores[i] = moverOf(mysql.Open, storagetest.StartMariaDB(t).Config)
		out[3].stores[i] = moverOf(nats.Open, storagetest.StartNATS(t, 1).Config)
	}
	return out
}

// client is what the tenant's kube-apiserver uses: a client of etcd, or of kine.
// Keys begin with the prefix.
func (k kind) client(t *testing.T, i int, tn storage.Tenant) (client *clientv3.Client, prefix string, stop func()) {
	t.Helper()
	credentials, err := k.stores[i].Credentials(tn, storage.Credentials{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := k.stores[i].EnsureTenant(t.Context(), tn, credentials); err != nil {
		t.Fatal(err)
	}
	if k.servers[i] != nil {
		return k.servers[i].Client(t, credentials.Certificate, credentials.Key), "/" + tn.Schema + "/", func() {}
	}
	shim := storagetest.StartKine(t, k.stores[i], tn, credentials)
	return shim.Client, "/registry/", shim.Stop
}

// Every pair of drivers, with kine where there is one in production: what a client
// of the source has written, and nothing else, a client of the target reads.
func TestEveryPair(t *testing.T) {
	all := kinds(t)
	for _, from := range all {
		for _, to := range all {
			t.Run(from.name+" to "+to.name, func(t *testing.T) { move(t, from, to) })
		}
	}
}

func move(t *testing.T, from, to kind) {
	tn := storage.Tenant{Owner: "ns/" + from.name + "-" + to.name, Schema: from.name + "-" + to.name, User: from.name + "-" + to.name}
	pair := migration.Pair{Source: from.stores[0], Target: to.stores[1], SourceName: "from", TargetName: "to", Tenant: tn, Attempt: "1"}
	client, prefix, stop := from.client(t, 0, tn)
	want := fillStore(t, client, prefix)
	last := revisionOf(t, client, prefix)

	if err := pair.Prepare(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	progress := &migration.Progress{}
	if err := pair.Copy(t.Context(), progress); err != nil {
		t.Fatal(err)
	}
	if err := create(t, client, prefix+"late", "1", 0); err == nil {
		t.Error("a write in the source after the freeze")
	}
	if diff := cmp.Diff(want, contentOf(t, client, prefix)); diff != "" {
		t.Errorf("reading in the source after the freeze:\n%s", diff)
	}
	stop()
	_, seal := progress.Frozen()
	if err := pair.Seal(t.Context(), seal); err != nil {
		t.Fatal(err)
	}
	client, prefix, _ = to.client(t, 1, tn)
	if diff := cmp.Diff(want, contentOf(t, client, prefix)); diff != "" {
		t.Errorf("the target:\n%s", diff)
	}
	if now := revisionOf(t, client, prefix); now <= last {
		t.Errorf("the target's revision is %d, the source's was %d", now, last)
	}
	if got, err := client.Get(t.Context(), prefix+"leased"); err != nil || len(got.Kvs) != 1 || got.Kvs[0].Lease == 0 {
		t.Errorf("the key with a lease: %v, %v", got, err)
	}
	goesOn(t, client, prefix, last)

	// And the way back: the source takes writes again.
	client, prefix, _ = from.client(t, 0, tn)
	if err := create(t, client, prefix+"returned", "1", 0); err != nil {
		t.Errorf("the source after its return: %v", err)
	}
}

// fillStore leaves keys that were created, updated, deleted and created again, in
// the transactions of kube-apiserver, which are those that kine understands.
func fillStore(t *testing.T, client *clientv3.Client, prefix string) map[string]string {
	t.Helper()
	want := map[string]string{}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 300 {
		name := fmt.Sprintf("configmaps/default/c%03d", i)
		want[name] = strings.Repeat("v", i) + "\x00\xff"
		must(create(t, client, prefix+name, want[name], 0))
	}
	for i := range 50 {
		changed, gone := fmt.Sprintf("configmaps/default/c%03d", i), fmt.Sprintf("configmaps/default/c%03d", 100+i)
		want[changed] = fmt.Sprint("changed ", i)
		must(replace(t, client, prefix+changed, want[changed]))
		must(remove(t, client, prefix+gone))
		delete(want, gone)
	}
	want["configmaps/default/c100"] = "again"
	must(create(t, client, prefix+"configmaps/default/c100", "again", 0))
	// Sorts otherwise where case is ignored.
	want["clusterroles/Zebra"], want["clusterroles/_a"] = "1", "2"
	must(create(t, client, prefix+"clusterroles/Zebra", "1", 0))
	must(create(t, client, prefix+"clusterroles/_a", "2", 0))
	lease, err := client.Grant(t.Context(), 3600)
	must(err)
	want["leased"] = "1"
	must(create(t, client, prefix+"leased", "1", lease.ID))
	return want
}

var errConflict = errors.New("conflict")

func commit(t *testing.T, client *clientv3.Client, key string, at int64, then clientv3.Op, otherwise ...clientv3.Op) error {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", at)).Then(then).Else(otherwise...).Commit()
	if err == nil && !done.Succeeded {
		return errConflict
	}
	return err
}

func create(t *testing.T, client *clientv3.Client, key, value string, lease clientv3.LeaseID) error {
	return commit(t, client, key, 0, clientv3.OpPut(key, value, clientv3.WithLease(lease)))
}

func replace(t *testing.T, client *clientv3.Client, key, value string) error {
	got, err := client.Get(t.Context(), key)
	if err != nil {
		return err
	}
	return commit(t, client, key, got.Kvs[0].ModRevision, clientv3.OpPut(key, value), clientv3.OpGet(key))
}

func remove(t *testing.T, client *clientv3.Client, key string) error {
	got, err := client.Get(t.Context(), key)
	if err != nil {
		return err
	}
	return commit(t, client, key, got.Kvs[0].ModRevision, clientv3.OpDelete(key), clientv3.OpGet(key))
}

// contentOf is everything but the key that kine makes for health checks.
func contentOf(t *testing.T, client *clientv3.Client, prefix string) map[string]string {
	t.Helper()
	got, err := client.Get(t.Context(), prefix, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, kv := range got.Kvs {
		if name := strings.TrimPrefix(string(kv.Key), prefix); name != "health" {
			out[name] = string(kv.Value)
		}
	}
	return out
}

func revisionOf(t *testing.T, client *clientv3.Client, prefix string) int64 {
	t.Helper()
	got, err := client.Get(t.Context(), prefix, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithLimit(1))
	if err != nil {
		t.Fatal(err)
	}
	return got.Header.Revision
}

// goesOn writes in the target as a kube-apiserver does, and watches. What a client
// has seen in the source is compacted in front of kine.
func goesOn(t *testing.T, client *clientv3.Client, prefix string, last int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	events := client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(revisionOf(t, client, prefix)+1))
	if err := create(t, client, prefix+"new", "1", 0); err != nil {
		t.Fatal(err)
	}
	if err := replace(t, client, prefix+"configmaps/default/c000", "new"); err != nil {
		t.Fatal(err)
	}
	if err := remove(t, client, prefix+"configmaps/default/c001"); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for answer := range events {
		if err := answer.Err(); err != nil {
			t.Fatalf("watching: %v", err)
		}
		for _, event := range answer.Events {
			if string(event.Kv.Key) != prefix+"health" {
				seen++
			}
			if event.Kv.ModRevision <= last {
				t.Errorf("%s of %s at %d, which is not above %d", event.Type, event.Kv.Key, event.Kv.ModRevision, last)
			}
		}
		if seen >= 3 {
			break
		}
	}
	if seen < 3 {
		t.Errorf("the watch has told of %d changes out of 3", seen)
	}
	if prefix != "/registry/" {
		return
	}
	old := <-client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(last))
	if !errors.Is(old.Err(), rpctypes.ErrCompacted) {
		t.Errorf("a watch from before the move: %v", old.Err())
	}
}
