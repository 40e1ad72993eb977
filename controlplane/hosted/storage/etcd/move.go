// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

const (
	// storeKey holds the random name of an etcd. The identifier that etcd itself
	// has follows from addresses, and two installations may share it.
	storeKey = "kamaji.clastix.io/store"
	// raiseKey is written to raise the revision.
	raiseKey = "kamaji.clastix.io/revision"

	// raiseLimit is the longest way that Raise goes. A revision costs about 100
	// bytes until it is compacted, and etcd does some ten thousand per second.
	raiseLimit = 5_000_000
	// raisers is how many writes of Raise are under way at a time: enough that
	// etcd stores many of them with one fsync, few enough to let others through.
	raisers = 64

	// importBytes bounds one transaction, below etcd's limit of 1.5 MiB for a request.
	importBytes = 1 << 20
	// importKeys bounds one transaction, below etcd's limit of 128 operations.
	importKeys = 100
)

var _ storage.Mover = (*driver)(nil)

// Position implements storage.Mover. The revision is that of the whole etcd,
// because a list carries it as its resource version, whatever is in the list.
func (d *driver) Position(ctx context.Context, _ storage.Tenant) (storage.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	name := string(uuid.NewUUID())
	got, err := d.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(storeKey), "=", 0)).
		Then(clientv3.OpPut(storeKey, name)).
		Else(clientv3.OpGet(storeKey)).Commit()
	if err != nil {
		return storage.Position{}, d.explain(err, "reading the name of the store")
	}
	if !got.Succeeded {
		name = string(got.Responses[0].GetResponseRange().Kvs[0].Value)
	}
	return storage.Position{Store: fmt.Sprintf("%x/%s", got.Header.ClusterId, name), Revision: got.Header.Revision}, nil
}

// Raise implements storage.Mover. etcd can only count up, one for each write.
func (d *driver) Raise(ctx context.Context, _ storage.Tenant, to int64) error {
	at, err := d.revision(ctx)
	if err != nil {
		return err
	}
	if to-at > raiseLimit {
		return storage.Errorf(storage.ReasonInvalid,
			"the revision of DataStore %s is %d and would have to become %d, for clients to notice that the store is another; writing %d times is too much. "+
				"Restore the etcd from a snapshot with etcdutl's flag --bump-revision, or choose another",
			d.config.Name, at, to, to-at)
	}
	var reached atomic.Int64
	reached.Store(at)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range min(raisers, max(to-at, 0)) {
		wg.Go(func() {
			for reached.Load() < to {
				put, err := d.raiseOnce(ctx)
				if err != nil {
					cancel(err)
					return
				}
				raise(&reached, put.Header.Revision)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return d.explain(err, "raising the revision to "+strconv.FormatInt(to, 10))
	}
	return nil
}

func (d *driver) raiseOnce(ctx context.Context) (*clientv3.PutResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return d.client.Put(ctx, raiseKey, "")
}

func raise(value *atomic.Int64, to int64) {
	for {
		have := value.Load()
		if have >= to || value.CompareAndSwap(have, to) {
			return
		}
	}
}

func (d *driver) revision(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	got, err := d.client.Get(ctx, raiseKey)
	if err != nil {
		return 0, d.explain(err, "reading the revision")
	}
	return got.Header.Revision, nil
}

// frozenKey says that a tenant may only read; its value is the token.
func frozenKey(schema string) string { return claimPrefix + "frozen/" + schema }

// Freeze implements storage.Mover. Every request to etcd carries the revision of
// the permissions that it was checked with, and is refused when that has become
// old by the time it is applied. So once the role is changed nothing gets through.
func (d *driver) Freeze(ctx context.Context, tenant storage.Tenant, token string) (string, error) {
	if err := d.admissible(tenant); err != nil {
		return "", err
	}
	if err := d.takeWrites(ctx, tenant, token); err != nil {
		return "", err
	}
	return d.seal(ctx, tenant.Schema)
}

func (d *driver) takeWrites(ctx context.Context, tenant storage.Tenant, token string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	mine, err := d.owned(ctx, tenant)
	if err != nil {
		return err
	}
	if !mine[0] || !mine[1] {
		return taken(tenant, claims(tenant)[0], "another tenant")
	}
	if _, err := d.client.Put(ctx, frozenKey(tenant.Schema), token); err != nil {
		return d.explain(err, "marking schema "+tenant.Schema+" as frozen")
	}
	if err := d.ensureRole(ctx, tenant.Schema, clientv3.PermRead); err != nil {
		return err
	}
	return d.confirmReadOnly(ctx, tenant.Schema)
}

// confirmReadOnly reads back what ensureRole has written.
func (d *driver) confirmReadOnly(ctx context.Context, role string) error {
	got, err := d.client.RoleGet(ctx, role)
	if err != nil {
		return d.explain(err, "reading role "+role)
	}
	for _, p := range got.Perm {
		if p.PermType != clientv3.PermRead {
			return storage.Errorf(storage.ReasonInternal, "role %s may still write %q; something else changes it", role, p.Key)
		}
	}
	return nil
}

// seal is the last change of a key and the number of keys, without those that
// expire: the one grows with every write, the other shrinks with every deletion.
func (d *driver) seal(ctx context.Context, schema string) (string, error) {
	from, end := prefix(schema)
	var last, count int64
	for {
		page, err := d.keys(ctx, schema, from, end)
		if err != nil {
			return "", err
		}
		for _, kv := range page.Kvs {
			from = string(kv.Key) + "\x00"
			if kv.Lease == 0 {
				last, count = max(last, kv.ModRevision), count+1
			}
		}
		if !page.More {
			return fmt.Sprintf("%d keys, last changed at %d", count, last), nil
		}
	}
}

func (d *driver) keys(ctx context.Context, schema, from, end string) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	page, err := d.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithLimit(deletePage))
	if err != nil {
		return nil, d.explain(err, "listing the keys of schema "+schema)
	}
	return page, nil
}

// Page implements storage.Mover.
func (d *driver) Page(ctx context.Context, tenant storage.Tenant, after string, limit int) (storage.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	begin, end := prefix(tenant.Schema)
	from := begin
	if after != "" {
		from = begin + after + "\x00"
	}
	got, err := d.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(int64(limit)))
	if err != nil {
		return storage.Page{}, d.explain(err, "reading the keys of schema "+tenant.Schema)
	}
	page := storage.Page{Last: after, More: got.More, Entries: make([]storage.Entry, 0, len(got.Kvs))}
	lives := map[int64]time.Duration{}
	for _, kv := range got.Kvs {
		page.Last = string(kv.Key)[len(begin):]
		entry, alive, err := d.entry(ctx, kv, page.Last, lives)
		if err != nil {
			return storage.Page{}, err
		}
		if alive {
			page.Entries = append(page.Entries, entry)
		}
	}
	return page, nil
}

// entry adds what is left of a key's life; lives holds it by lease.
func (d *driver) entry(ctx context.Context, kv *mvccpb.KeyValue, key string, lives map[int64]time.Duration) (storage.Entry, bool, error) {
	entry := storage.Entry{Key: key, Value: kv.Value}
	if kv.Lease == 0 {
		return entry, true, nil
	}
	life, known := lives[kv.Lease]
	if !known {
		left, err := d.client.TimeToLive(ctx, clientv3.LeaseID(kv.Lease))
		if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return entry, false, d.explain(err, "reading how long keys have to live")
		}
		if err == nil {
			life = time.Duration(left.TTL) * time.Second
		}
		lives[kv.Lease] = life
	}
	entry.TTL = life
	return entry, life > 0, nil
}

// Import implements storage.Mover. Each transaction checks the token, so there is
// no moment between the check and the write.
func (d *driver) Import(ctx context.Context, tenant storage.Tenant, token string, entries []storage.Entry) error {
	begin, _ := prefix(tenant.Schema)
	leases := map[time.Duration]clientv3.LeaseID{}
	var puts []clientv3.Op
	size := 0
	flush := func() error {
		defer func() { puts, size = nil, 0 }()
		if len(puts) == 0 {
			return nil
		}
		return d.importPage(ctx, tenant, token, puts)
	}
	for _, entry := range entries {
		var options []clientv3.OpOption
		if entry.TTL > 0 {
			lease, err := d.lease(ctx, entry.TTL, leases)
			if err != nil {
				return err
			}
			options = append(options, clientv3.WithLease(lease))
		}
		weight := len(begin) + len(entry.Key) + len(entry.Value)
		if size+weight > importBytes || len(puts) == importKeys {
			if err := flush(); err != nil {
				return err
			}
		}
		puts, size = append(puts, clientv3.OpPut(begin+entry.Key, string(entry.Value), options...)), size+weight
	}
	return flush()
}

func (d *driver) importPage(ctx context.Context, tenant storage.Tenant, token string, puts []clientv3.Op) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	marker := frozenKey(tenant.Schema)
	done, err := d.client.Txn(ctx).If(clientv3.Compare(clientv3.Value(marker), "=", token)).Then(puts...).Commit()
	if errors.Is(err, rpctypes.ErrRequestTooLarge) && len(puts) == 1 {
		// It fitted when it was written alone, and so it does now; a leftover importer is kept off by the next check.
		_, err = d.client.Do(ctx, puts[0])
		return err
	}
	switch {
	case err != nil:
		return d.explain(err, "writing the keys of schema "+tenant.Schema)
	case !done.Succeeded:
		return storage.Errorf(storage.ReasonPermissionDenied, "schema %s in DataStore %s is not held for this migration any more", tenant.Schema, d.config.Name)
	}
	return nil
}

// lease returns one for keys with the same time to live.
func (d *driver) lease(ctx context.Context, life time.Duration, leases map[time.Duration]clientv3.LeaseID) (clientv3.LeaseID, error) {
	if id, ok := leases[life]; ok {
		return id, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	granted, err := d.client.Grant(ctx, int64(math.Ceil(life.Seconds())))
	if err != nil {
		return 0, d.explain(err, "granting a lease")
	}
	leases[life] = granted.ID
	return granted.ID, nil
}
