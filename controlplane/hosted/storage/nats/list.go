// SPDX-License-Identifier: Apache-2.0

package nats

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/kine"
)

const (
	// listings is of how many tenants the keys are in memory at a time: more than
	// are copied at a time.
	listings = 8
	// quiet is how long the next message of a bucket may take, walks how often it is
	// begun anew then, and pulse how often a server says that it is there. In a cluster
	// a request can be lost that comes sooner than a server has heard of its consumer.
	quiet, walks, pulse = 5 * time.Second, 4, time.Second
	// readers is how many messages are read at a time, attempts how often one that a
	// server does not have yet, and lag the pause between.
	readers, attempts, lag = 16, 20, 100 * time.Millisecond
)

// listing are the keys of a tenant that exist. A bucket can be read from a sequence
// on, but not from a key on, and among its messages many are of former values and
// of keys that are gone: kine leaves ten of each for ever. So the heads of the last
// message of each key are read once for a walk, and not for each page.
type listing struct {
	// created and last identify the state of the bucket that it is of.
	created time.Time
	last    uint64
	keys    []place
	// odd is what else there is that a move would leave behind.
	odd error
}

// place is where the last value of a key is, which is relative to kine.Prefix.
type place struct {
	key string
	seq uint64
}

// list returns the keys of a tenant in order.
func (d *driver) list(ctx context.Context, s jetstream.Stream, tenant storage.Tenant) (listing, error) {
	info := s.CachedInfo()
	d.mu.Lock()
	known, ok := d.lists[tenant.Schema]
	d.mu.Unlock()
	if ok && known.created.Equal(info.Created) && known.last == info.State.LastSeq {
		return known, nil
	}
	if info.State.Msgs == 0 {
		return listing{}, nil
	}
	found, err := d.heads(ctx, s, tenant)
	for tries := 1; errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && tries < walks; tries++ {
		found, err = d.heads(ctx, s, tenant)
	}
	if err != nil {
		return found, err
	}
	found.created, found.last = info.Created, info.State.LastSeq
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.lists) >= listings {
		clear(d.lists)
	}
	if d.lists == nil {
		d.lists = map[string]listing{}
	}
	d.lists[tenant.Schema] = found
	return found, nil
}

// unlist frees what list has kept.
func (d *driver) unlist(tenant storage.Tenant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.lists, tenant.Schema)
}

// heads reads the head of the last message of each key. A server that follows the
// one that writes may be behind, so it goes on to the last sequence that this one
// has told. The message with it is there: it is the last of its key.
func (d *driver) heads(ctx context.Context, s jetstream.Stream, tenant storage.Tenant) (listing, error) {
	var out listing
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubjects: []string{bucketPrefix(tenant) + ">"}, HeadersOnly: true, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return out, err
	}
	messages, err := consumer.Messages(jetstream.PullExpiry(quiet), jetstream.PullHeartbeat(pulse))
	if err != nil {
		return out, err
	}
	defer messages.Stop()
	found := map[string]uint64{}
	for last := s.CachedInfo().State.LastSeq; ; {
		message, err := next(ctx, messages)
		if err != nil {
			return out, err
		}
		about, err := message.Metadata()
		if err != nil {
			return out, err
		}
		if err := d.note(found, tenant, message, about.Sequence.Stream); err != nil {
			out.odd = err
		}
		if about.Sequence.Stream >= last {
			break
		}
	}
	for key, seq := range found {
		out.keys = append(out.keys, place{key, seq})
	}
	slices.SortFunc(out.keys, func(a, b place) int { return cmp.Compare(a.key, b.key) })
	return out, nil
}

// next waits for a message, for a while.
func next(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	return messages.Next(jetstream.NextContext(ctx))
}

// note keeps where a key is, or forgets one that is gone. The error is about what
// is no key of kube-apiserver.
func (d *driver) note(found map[string]uint64, tenant storage.Tenant, message jetstream.Msg, seq uint64) error {
	name := strings.TrimPrefix(message.Subject(), bucketPrefix(tenant))
	gone := message.Headers().Get(operationHeader) != ""
	key, err := kine.DecodeKey(name)
	if err != nil {
		if gone {
			return nil
		}
		return storage.Errorf(storage.ReasonInvalid, "schema %s in DataStore %s: %v; delete it", tenant.Schema, d.config.Name, err)
	}
	rest, below := strings.CutPrefix(key, kine.Prefix)
	switch {
	case below && gone:
		delete(found, rest)
	case below:
		found[rest] = seq
	case !gone && key != kine.APICompactKey && key != kine.CompactKey:
		return kine.Foreign(d.config.Name, tenant.Schema, key)
	}
	return nil
}

// read returns the entries at some places, without those that were deleted or have
// expired since.
func (d *driver) read(ctx context.Context, s jetstream.Stream, tenant storage.Tenant, places []place, strict bool) ([]storage.Entry, error) {
	found := make([]*storage.Entry, len(places))
	failed := make([]error, readers)
	work := make(chan int)
	done := make(chan struct{}, readers)
	for r := range readers {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range work {
				if failed[r] == nil {
					found[i], failed[r] = d.entry(ctx, s, tenant, places[i], strict)
				}
			}
		}()
	}
	for i := range places {
		work <- i
	}
	close(work)
	for range readers {
		<-done
	}
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	out := make([]storage.Entry, 0, len(places))
	for _, e := range found {
		if e != nil {
			out = append(out, *e)
		}
	}
	return out, nil
}

// entry reads one message, which is addressed by its sequence: a server that is
// behind has none, and not an older one. Only when it is strict it fails for one
// that kine has not written.
func (d *driver) entry(ctx context.Context, s jetstream.Stream, tenant storage.Tenant, at place, strict bool) (*storage.Entry, error) {
	message, err := s.GetMsg(ctx, at.seq)
	for tries := 1; errors.Is(err, jetstream.ErrMsgNotFound) && tries < attempts; tries++ {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lag):
		}
		message, err = s.GetMsg(ctx, at.seq)
	}
	if err != nil {
		return nil, err
	}
	change, err := kine.DecodeChange(message.Data)
	if err == nil && change.KV.Key != kine.Prefix+at.key {
		err = errors.New("it is about another key")
	}
	if err != nil && !strict {
		return nil, nil
	}
	if err != nil {
		return nil, storage.Errorf(storage.ReasonInvalid, "schema %s in DataStore %s: the value of key %q was not written by kine: %v; delete it",
			tenant.Schema, d.config.Name, kine.Prefix+at.key, err)
	}
	out := &storage.Entry{Key: at.key, Value: change.KV.Value}
	if change.KV.Lease > 0 {
		out.TTL = time.Until(message.Time.Add(time.Duration(change.KV.Lease) * time.Second))
		if out.TTL <= 0 {
			return nil, nil
		}
	}
	if change.Delete {
		return nil, nil
	}
	return out, nil
}

// behind is the part of a list that follows a key.
func behind(keys []place, after string) []place {
	if after == "" {
		return keys
	}
	return keys[sort.Search(len(keys), func(i int) bool { return keys[i].key > after }):]
}
