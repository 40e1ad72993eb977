// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"time"
)

// Mover is what a Driver also is when tenants can be moved out of its stores and
// into them. Keys are relative to the tenant's place in the store, so that what
// one driver reads another can write.
//
// A tenant whose writes are frozen stays so until EnsureTenant is called for it,
// which gives the right to write back and ends the freeze. Whoever freezes keeps
// from calling EnsureTenant meanwhile.
type Mover interface {
	Driver

	// Position says which store this is and how far its revisions have come, for
	// a tenant that EnsureTenant may not have been called for yet.
	Position(ctx context.Context, tenant Tenant) (Position, error)

	// Raise makes the store's revision at least to. It is the only call that may
	// take long, and ends early with ctx. What exists is not changed. A distance
	// that no store should be burdened with is refused with ReasonInvalid.
	Raise(ctx context.Context, tenant Tenant, to int64) error

	// Freeze takes the tenant's right to write away, in the store itself, and
	// returns once no write can succeed any more, including those under way.
	// Reading goes on. token names the attempt. The seal it returns is the same
	// for as long as nothing has been written, at every further call. What the
	// store itself removes because its time to live is over is not counted.
	Freeze(ctx context.Context, tenant Tenant, token string) (seal string, err error)

	// Page returns entries behind the key after, at most limit of them, in an order
	// of the store's own.
	Page(ctx context.Context, tenant Tenant, after string, limit int) (Page, error)

	// Import writes entries for a tenant that was frozen with this token, and
	// fails with ReasonPermissionDenied when it is no longer: an importer that
	// was left behind must not write over what the tenant has written since.
	Import(ctx context.Context, tenant Tenant, token string, entries []Entry) error
}

// Position is where a store stands.
type Position struct {
	// Store identifies the database itself. Two DataStores with the same one hold
	// the same data, whatever their names and endpoints are.
	Store string
	// Revision is at least that of everything a client of the tenant has seen.
	Revision int64
}

// Entry is one key of a tenant.
type Entry struct {
	// Key is relative to the tenant's prefix or database, without a leading slash.
	Key   string
	Value []byte
	// TTL is how long the entry has still to live, 0 for ever.
	TTL time.Duration
}

// Page is a part of a tenant's entries.
type Page struct {
	Entries []Entry
	// Last is the last key that was looked at, also when its entry has expired and
	// is not among Entries. The next page begins behind it.
	Last string
	// More says that there is a next page.
	More bool
}
