// SPDX-License-Identifier: Apache-2.0

package migration_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/migration"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/etcd"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/storagetest"
)

var tenant = storage.Tenant{Owner: "ns/a", Schema: "a", User: "a"}

// side is one of the two etcds.
type side struct {
	storage.Mover
	server *storagetest.Etcd
	admin  *clientv3.Client
}

func open(t *testing.T) side {
	t.Helper()
	server := storagetest.StartEtcd(t)
	config := server.Config
	config.EnableAuth = true
	driver, err := etcd.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = driver.Close() })
	if err := driver.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	return side{driver.(storage.Mover), server, server.Client(t, config.Certificate, config.Key)}
}

func (s side) put(t *testing.T, key, value string) {
	t.Helper()
	if _, err := s.admin.Put(t.Context(), "/"+tenant.Schema+"/"+key, value); err != nil {
		t.Fatal(err)
	}
}

// dies loses its connection after some imports, as a manager that is killed does.
type dies struct {
	storage.Mover
	after int
}

var errKilled = errors.New("killed")

func (d *dies) Import(ctx context.Context, tenant storage.Tenant, token string, entries []storage.Entry) error {
	if d.after--; d.after < 0 {
		return errKilled
	}
	return d.Mover.Import(ctx, tenant, token, entries)
}

func TestCopy(t *testing.T) {
	from, to := open(t), open(t)
	if err := from.EnsureTenant(t.Context(), tenant, storage.Credentials{}); err != nil {
		t.Fatal(err)
	}
	for i := range 600 {
		from.put(t, fmt.Sprintf("k%04d", i), strings.Repeat("x", 100*(i%90)))
	}
	pair := migration.Pair{Source: from, Target: to, SourceName: "from", TargetName: "to", Tenant: tenant, Attempt: "1"}

	same := pair
	same.Target = from
	if err := same.Prepare(t.Context(), true); storage.ReasonOf(err) != storage.ReasonInvalid || !migration.Permanent(err) {
		t.Fatalf("a store moved into itself: %v", err)
	}
	if n := from.server.Keys("/a/"); n != 600 {
		t.Fatalf("of 600 keys %d are left", n)
	}
	if err := pair.Prepare(t.Context(), false); err != nil {
		t.Fatal(err)
	}

	killed := pair
	killed.Target = &dies{to, 4}
	if err := killed.Copy(t.Context(), &migration.Progress{}); !errors.Is(err, errKilled) || migration.Permanent(err) {
		t.Fatalf("the first run: %v", err)
	}
	if n := to.server.Keys("/a/"); n == 0 || n >= 600 {
		t.Fatalf("the first run has copied %d keys", n)
	}
	progress := &migration.Progress{}
	if err := pair.Copy(t.Context(), progress); err != nil {
		t.Fatalf("the second run: %v", err)
	}
	_, seal := progress.Frozen()
	if n := progress.Keys.Load(); n != 600 || to.server.Keys("/a/") != 600 {
		t.Errorf("%d keys were copied", n)
	}
	if err := pair.Seal(t.Context(), seal); err != nil {
		t.Errorf("nothing was written, but: %v", err)
	}
	source, err := from.Position(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	if target, err := to.Position(t.Context(), tenant); err != nil || target.Revision <= source.Revision {
		t.Errorf("the target is at %d, the source at %d, %v", target.Revision, source.Revision, err)
	}

	to.put(t, "more", "")
	if err := pair.Copy(t.Context(), &migration.Progress{}); !migration.Permanent(err) {
		t.Errorf("a target with something else in it: %v", err)
	}
	from.put(t, "k0000", "changed")
	if err := pair.Seal(t.Context(), seal); !migration.Permanent(err) {
		t.Errorf("a source that was written to: %v", err)
	}
	if err := pair.Discard(t.Context(), true); err != nil || to.server.Keys("/a/") != 0 {
		t.Errorf("%d keys are left, %v", to.server.Keys("/a/"), err)
	}
}

// What somebody else has put into the target is neither copied over nor deleted.
func TestForeignTarget(t *testing.T) {
	from, to := open(t), open(t)
	if err := from.EnsureTenant(t.Context(), tenant, storage.Credentials{}); err != nil {
		t.Fatal(err)
	}
	to.put(t, "precious", "1")
	pair := migration.Pair{Source: from, Target: to, Tenant: tenant, Attempt: "1"}
	if err := pair.Prepare(t.Context(), false); !migration.Permanent(err) || !strings.Contains(err.Error(), "precious") {
		t.Errorf("prepared: %v", err)
	}
	if err := pair.Discard(t.Context(), false); err != nil {
		t.Error(err)
	}
	if n := to.server.Keys("/a/"); n != 1 {
		t.Errorf("%d keys are left", n)
	}
	if err := pair.Prepare(t.Context(), true); err != nil || to.server.Keys("/a/") != 0 {
		t.Errorf("with permission %d keys are left, %v", to.server.Keys("/a/"), err)
	}
}
