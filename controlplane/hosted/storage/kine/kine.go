// SPDX-License-Identifier: Apache-2.0

// Package kine knows how kine keeps an etcd in a table of a database: one row for
// each change of a key, whose id is the revision; and how in a bucket of NATS.
// Drivers read and write these when a tenant moves.
package kine

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

const (
	// Table is the name of the table, in every database.
	Table = "kine"
	// Prefix begins the keys of kube-apiserver, whose --etcd-prefix is the default
	// in front of kine, and End is the first key behind them.
	Prefix, End = "/registry/", "/registry0"
	// CompactKey is the row whose prev_revision is how far the table is compacted.
	// What is older is answered with "compacted".
	CompactKey = "compact_rev_key"
	// APICompactKey is where kine keeps what kube-apiserver takes for that row.
	APICompactKey = "compact_rev_key_apiserver"
	// GapPrefix begins the names of rows that only fill a gap between revisions.
	GapPrefix = "gap-"
	// NameLimit is the longest name that the table of MySQL takes.
	NameLimit = 630
)

// Row is one key as the table has it.
type Row struct {
	Name  string
	Value []byte
	// Lease is how many seconds the key lives, 0 for ever. kine counts them from
	// when it has read or written the row.
	Lease int64
	// Deleted says that the last change was its deletion.
	Deleted bool
}

// Rows turns entries into rows.
func Rows(entries []storage.Entry) []Row {
	out := make([]Row, 0, len(entries))
	for _, e := range entries {
		out = append(out, Row{Name: Prefix + e.Key, Value: e.Value, Lease: int64(math.Ceil(e.TTL.Seconds()))})
	}
	return out
}

// Page turns the rows behind the key after into a page; limit is how many were asked for.
func Page(rows []Row, after string, limit int) storage.Page {
	page := storage.Page{Last: after, More: len(rows) >= limit, Entries: make([]storage.Entry, 0, len(rows))}
	for _, r := range rows {
		page.Last = strings.TrimPrefix(r.Name, Prefix)
		if !r.Deleted {
			page.Entries = append(page.Entries, storage.Entry{Key: page.Last, Value: r.Value, TTL: time.Duration(r.Lease) * time.Second})
		}
	}
	return page
}

// Gap is the name of the row that fills a revision.
func Gap(revision int64) string { return GapPrefix + strconv.FormatInt(revision, 10) }

// Foreign reports a table that another --etcd-prefix was used with: what is not
// below Prefix would not be moved.
func Foreign(store, schema, name string) error {
	return storage.Errorf(storage.ReasonInvalid,
		"schema %s in DataStore %s has the key %q, which is not below %s; kube-apiserver was started with another --etcd-prefix, and such a tenant can't be moved",
		schema, store, name, Prefix)
}
