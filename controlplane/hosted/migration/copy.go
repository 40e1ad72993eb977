// SPDX-License-Identifier: Apache-2.0

package migration

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

const (
	// pageBytes is about how much of a tenant is in memory at a time.
	pageBytes = 2 << 20
	// firstPage and lastPage bound the number of entries read at once. The first
	// is small because nothing is known about their size.
	firstPage, lastPage = 16, 512

	// headroom is added to the revision that the target gets beforehand: the source
	// goes on counting, and what is left to count is counted while writes are refused.
	headroom = 1000
)

// Mismatch says that source and target do not hold the same, which trying again
// does not change.
type Mismatch struct{ message string }

func (m *Mismatch) Error() string { return m.message }

// Permanent says that a job that failed with err will do so again.
func Permanent(err error) bool {
	_, mismatch := errors.AsType[*Mismatch](err)
	return mismatch || storage.IsPermanent(err)
}

// Pair is where a tenant comes from and goes to.
type Pair struct {
	Source, Target storage.Mover
	// SourceName and TargetName are the names of the DataStores, for messages.
	SourceName, TargetName string
	Tenant                 storage.Tenant
	// Attempt as in Record.
	Attempt string
}

// Prepare makes the target ready while the tenant goes on as before: what may be
// deleted there is, the tenant gets its user and rights except that to write, and
// the revision is raised above the source's. clean permits to delete what is
// there already.
func (p Pair) Prepare(ctx context.Context, clean bool) error {
	from, err := p.Source.Position(ctx, p.Tenant)
	if err != nil {
		return err
	}
	to, err := p.Target.Position(ctx, p.Tenant)
	if err != nil {
		return err
	}
	if from.Store == to.Store {
		return storage.Errorf(storage.ReasonInvalid,
			"DataStore %s is the same store as %s, where the data is already; change the endpoints of %s instead", p.TargetName, p.SourceName, p.SourceName)
	}
	found, err := p.Target.Page(ctx, p.Tenant, "", 1)
	if err != nil {
		return err
	}
	if found.Last != "" {
		if !clean {
			return storage.Errorf(storage.ReasonTaken,
				"schema %s in DataStore %s is not empty, it begins with key %q; have it deleted by the annotation kamaji.clastix.io/cleanup-prior-migration=true, or choose another DataStore",
				p.Tenant.Schema, p.TargetName, found.Last)
		}
		if err := p.Target.DeleteTenant(ctx, p.Tenant); err != nil {
			return err
		}
	}
	// These are nobody's; the tenant brings its own when it begins to use the store.
	credentials, err := p.Target.Credentials(p.Tenant, storage.Credentials{}, time.Now())
	if err != nil {
		return err
	}
	if err := p.Target.EnsureTenant(ctx, p.Tenant, credentials); err != nil {
		return err
	}
	if _, err := p.Target.Freeze(ctx, p.Tenant, p.Attempt); err != nil {
		return err
	}
	return p.Target.Raise(ctx, p.Tenant, from.Revision+headroom)
}

// Discard removes from the target what a failed attempt has left there: the copy
// if owned says that there is one, and else no more than the rights to nothing.
func (p Pair) Discard(ctx context.Context, owned bool) error {
	if !owned {
		found, err := p.Target.Page(ctx, p.Tenant, "", 1)
		if err != nil || found.Last != "" {
			return err
		}
	}
	return p.Target.DeleteTenant(ctx, p.Tenant)
}

// Copy freezes the source, copies everything, and compares. It begins anew when
// it is run again; what was copied before is written over.
func (p Pair) Copy(ctx context.Context, progress *Progress) error {
	seal, err := p.Source.Freeze(ctx, p.Tenant, p.Attempt)
	if err != nil {
		return err
	}
	progress.Froze(time.Now(), seal)
	if err := p.ahead(ctx); err != nil {
		return err
	}
	before := &summary{}
	err = walk(ctx, p.Source, p.Tenant, func(entries []storage.Entry) error {
		before.add(entries)
		if err := p.Target.Import(ctx, p.Tenant, p.Attempt, entries); err != nil {
			return err
		}
		progress.Keys.Store(before.keys)
		progress.Bytes.Store(before.bytes)
		return nil
	})
	if err != nil {
		return err
	}
	after := &summary{}
	err = walk(ctx, p.Target, p.Tenant, func(entries []storage.Entry) error { after.add(entries); return nil })
	if err != nil {
		return err
	}
	if before.String() != after.String() {
		return &Mismatch{fmt.Sprintf("the copy in DataStore %s differs: %s there, %s in %s", p.TargetName, after, before, p.SourceName)}
	}
	return p.Sealed(ctx, seal)
}

// Seal is the last look before the target takes over, when no pod is left that
// clients could learn newer revisions from.
func (p Pair) Seal(ctx context.Context, seal string) error {
	if err := p.Sealed(ctx, seal); err != nil {
		return err
	}
	return p.ahead(ctx)
}

// Sealed fails when the source was written to since it was copied.
func (p Pair) Sealed(ctx context.Context, seal string) error {
	now, err := p.Source.Freeze(ctx, p.Tenant, p.Attempt)
	if err != nil {
		return err
	}
	if now != seal {
		return &Mismatch{fmt.Sprintf("DataStore %s was written to although it was frozen: %s, was %s", p.SourceName, now, seal)}
	}
	return nil
}

// ahead makes the target's revision greater than every resource version that a
// client of the tenant has seen. A watch that begins at an older one is refused
// with "too old", and the client lists anew; one that begins at a newer one would
// stay silent until the store gets there.
func (p Pair) ahead(ctx context.Context) error {
	from, err := p.Source.Position(ctx, p.Tenant)
	if err != nil {
		return err
	}
	return p.Target.Raise(ctx, p.Tenant, from.Revision+headroom)
}

// walk reads all of a tenant in pages of bounded size.
func walk(ctx context.Context, m storage.Mover, tenant storage.Tenant, visit func([]storage.Entry) error) error {
	limit := firstPage
	for after, more := "", true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		page, err := m.Page(ctx, tenant, after, limit)
		if err != nil {
			return err
		}
		if err := visit(page.Entries); err != nil {
			return err
		}
		limit = nextLimit(limit, page.Entries)
		after, more = page.Last, page.More
	}
	return nil
}

// nextLimit follows the size of the entries, and grows by two at most.
func nextLimit(limit int, entries []storage.Entry) int {
	if len(entries) == 0 {
		return limit
	}
	size := 1
	for _, entry := range entries {
		size += len(entry.Key) + len(entry.Value)
	}
	fits := pageBytes * len(entries) / size
	return max(1, min(fits, 2*limit, lastPage))
}

// summary is count, size and digest of what does not expire: what does may be
// gone on one side and not yet on the other.
type summary struct {
	keys, bytes int64
	// digest is the sum of the digests of the entries: stores don't agree on the
	// order of keys.
	digest [4]uint64
}

func (s *summary) add(entries []storage.Entry) {
	for _, entry := range entries {
		if entry.TTL != 0 {
			continue
		}
		s.keys, s.bytes = s.keys+1, s.bytes+int64(len(entry.Key)+len(entry.Value))
		one := sha256.New()
		fmt.Fprintf(one, "%d:%s", len(entry.Key), entry.Key)
		one.Write(entry.Value)
		sum, carry := one.Sum(nil), uint64(0)
		for i := range s.digest {
			s.digest[i], carry = bits.Add64(s.digest[i], binary.LittleEndian.Uint64(sum[8*i:]), carry)
		}
	}
}

func (s *summary) String() string {
	return fmt.Sprintf("%d keys, %d bytes, digest %016x", s.keys, s.bytes, s.digest)
}
