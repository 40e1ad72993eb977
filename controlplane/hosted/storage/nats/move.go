// SPDX-License-Identifier: Apache-2.0

package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/kine"
)

const (
	// moveTimeout bounds one step of a copy: a page is read or written, or a bucket looked through.
	moveTimeout = 60 * time.Second
	// raiseLimit is the longest way that Raise goes in a bucket with content.
	raiseLimit = 5_000_000
	// raiseAtOnce is how many messages of Raise are under way at a time.
	raiseAtOnce = 2000
	// subjectMost is how long the subject of a message may be: servers take 4096
	// bytes for it and what is about it.
	subjectMost = 3500
)

var _ storage.Mover = (*driver)(nil)

// Position implements storage.Mover. A bucket is known by the nanosecond of its
// creation; one that does not exist is the same as no other.
func (d *driver) Position(ctx context.Context, tenant storage.Tenant) (storage.Position, error) {
	at := storage.Position{Store: "no bucket in DataStore " + d.config.Name}
	if err := d.admissible(tenant); err != nil {
		return at, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := d.inside(ctx, tenant, "reading the revision of schema "+tenant.Schema, func(_ *jwt.AccountClaims, js jetstream.JetStream) error {
		s, err := d.state(ctx, js, tenant)
		if err != nil || s == nil {
			return err
		}
		at.Store = tenant.Schema + "/" + s.Created.UTC().Format(time.RFC3339Nano)
		at.Revision = int64(s.State.LastSeq)
		return nil
	})
	return at, err
}

// state is what the server that writes a bucket says about it, nil if there is none.
func (d *driver) state(ctx context.Context, js jetstream.JetStream, tenant storage.Tenant) (*jetstream.StreamInfo, error) {
	s, err := d.open(ctx, js, tenant)
	if err != nil || s == nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}

func (d *driver) open(ctx context.Context, js jetstream.JetStream, tenant storage.Tenant) (jetstream.Stream, error) {
	var s jetstream.Stream
	err := settled(ctx, func() error {
		var err error
		s, err = js.Stream(ctx, stream(tenant))
		return err
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	return s, err
}

// Page implements storage.Mover. There is nothing in an account that does not exist.
// What must not be there is refused while it is held, which it is for a copy: of
// others it is asked whether they are empty, before they are emptied.
func (d *driver) Page(ctx context.Context, tenant storage.Tenant, after string, limit int) (storage.Page, error) {
	page := storage.Page{Last: after}
	if err := d.admissible(tenant); err != nil {
		return page, err
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	err := d.inside(ctx, tenant, "reading the keys of schema "+tenant.Schema, func(have *jwt.AccountClaims, js jetstream.JetStream) error {
		s, err := d.open(ctx, js, tenant)
		if err != nil || s == nil {
			return err
		}
		found, err := d.list(ctx, s, tenant)
		if err != nil {
			return err
		}
		strict := holder(have) != ""
		if strict && found.odd != nil {
			return found.odd
		}
		keys := behind(found.keys, after)
		if page.More = len(keys) > limit; page.More {
			keys = keys[:limit]
		} else {
			d.unlist(tenant)
		}
		if len(keys) > 0 {
			page.Last = keys[len(keys)-1].key
		}
		page.Entries, err = d.read(ctx, s, tenant, keys, strict)
		return err
	})
	return page, err
}

// Import implements storage.Mover. It enters with the key of the attempt, which the
// account no longer names when another one holds it, or its tenant; and each message
// counts on the sequence that the one before has got, so what is late comes to nothing.
func (d *driver) Import(ctx context.Context, tenant storage.Tenant, token string, entries []storage.Entry) error {
	if err := d.admissible(tenant); err != nil {
		return err
	}
	entrance, err := d.entrance(tenant, attempt(token))
	if err != nil {
		return d.explain(err, "writing the keys of schema "+tenant.Schema)
	}
	messages := make([]*client.Msg, 0, len(entries))
	for _, e := range entries {
		message, err := d.message(entrance, e)
		if err != nil {
			return err
		}
		messages = append(messages, message)
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	held := false
	err = d.inside(ctx, tenant, "writing the keys of schema "+tenant.Schema, func(have *jwt.AccountClaims, js jetstream.JetStream) error {
		if held = holder(have) == attempt(token); !held {
			return nil
		}
		s, err := d.state(ctx, js, tenant)
		if err != nil {
			return err
		}
		if s == nil {
			return jetstream.ErrStreamNotFound
		}
		return publish(ctx, js, s.State.LastSeq, messages)
	})
	if err == nil && !held {
		return storage.Errorf(storage.ReasonPermissionDenied, "schema %s in DataStore %s is not held for this migration any more", tenant.Schema, d.config.Name)
	}
	return err
}

// message writes an entry as kine does one that is created.
func (d *driver) message(entrance string, e storage.Entry) (*client.Msg, error) {
	row := kine.Rows([]storage.Entry{e})[0]
	out := client.NewMsg(entrance + kine.EncodeKey(row.Name))
	if len(out.Subject) > subjectMost {
		return nil, storage.Errorf(storage.ReasonInvalid, "key %q is too long for NATS", row.Name)
	}
	var err error
	out.Data, err = kine.Change{KV: &kine.KeyValue{Key: row.Name, Value: row.Value, Lease: row.Lease}, Create: true}.Encode()
	if err != nil {
		return nil, d.explain(err, "encoding key "+row.Name)
	}
	return out, nil
}

// publish writes messages that follow a sequence, and nothing after one that fails.
func publish(ctx context.Context, js jetstream.JetStream, last uint64, messages []*client.Msg) error {
	futures := make([]jetstream.PubAckFuture, 0, len(messages))
	for _, message := range messages {
		// Trying again by itself would be out of order.
		future, err := js.PublishMsgAsync(message, jetstream.WithExpectLastSequence(last), jetstream.WithRetryAttempts(0))
		if err != nil {
			return err
		}
		last++
		futures = append(futures, future)
	}
	return acknowledged(ctx, futures)
}

// acknowledged waits for all that is under way. The error is the first.
func acknowledged(ctx context.Context, futures []jetstream.PubAckFuture) error {
	for _, future := range futures {
		select {
		case <-future.Ok():
		case err := <-future.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Raise implements storage.Mover. A bucket without keys that is held jumps: a purge
// up to a sequence makes it the next one. Otherwise messages are written that take
// one sequence each. What is older counts as compacted.
func (d *driver) Raise(ctx context.Context, tenant storage.Tenant, to int64) error {
	if err := d.admissible(tenant); err != nil {
		return err
	}
	return d.inside(ctx, tenant, fmt.Sprintf("raising the revision of schema %s to %d", tenant.Schema, to), func(have *jwt.AccountClaims, js jetstream.JetStream) error {
		if err := d.bucket(ctx, js.Conn(), tenant); err != nil {
			return err
		}
		s, err := d.open(ctx, js, tenant)
		if err != nil || s == nil {
			return err
		}
		entrance, err := d.entrance(tenant, holder(have))
		if err != nil {
			return err
		}
		at := int64(s.CachedInfo().State.LastSeq)
		if at < to && holder(have) != "" {
			jumped, err := jump(ctx, s, tenant, to)
			if err != nil {
				return err
			}
			if jumped {
				at = to - 1
			}
		}
		if to-at > raiseLimit {
			return storage.Errorf(storage.ReasonInvalid, "DataStore %s: schema %s would need %d writes to get from revision %d to %d, more than %d; have it deleted by the annotation kamaji.clastix.io/cleanup-prior-migration=true",
				d.config.Name, tenant.Schema, to-at, at, to, raiseLimit)
		}
		for ; at < to; at += raiseAtOnce {
			if err := fill(ctx, js, entrance, min(raiseAtOnce, to-at)); err != nil {
				return err
			}
		}
		return compact(ctx, js, s, tenant, entrance, to)
	})
}

// jump takes a bucket in which there are no keys of kube-apiserver to a sequence. A
// purge that is late takes nothing away: what a tenant writes is behind where its
// bucket was raised to, and the revisions of its stores only rise.
func jump(ctx context.Context, s jetstream.Stream, tenant storage.Tenant, to int64) (bool, error) {
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(bucketPrefix(tenant)+kine.MetaKeys))
	if err != nil {
		return false, err
	}
	ours := uint64(0)
	for _, n := range info.State.Subjects {
		ours += n
	}
	if ours != info.State.Msgs {
		return false, nil
	}
	return true, s.Purge(ctx, jetstream.WithPurgeSequence(uint64(to)))
}

// fill writes messages that say nothing.
func fill(ctx context.Context, js jetstream.JetStream, entrance string, n int64) error {
	futures := make([]jetstream.PubAckFuture, 0, n)
	for range n {
		future, err := js.PublishMsgAsync(gap(entrance))
		if err != nil {
			return err
		}
		futures = append(futures, future)
	}
	return acknowledged(ctx, futures)
}

// compact notes that what is older than a revision is gone, where kine looks when
// it starts: a number of the note itself, and the revision.
func compact(ctx context.Context, js jetstream.JetStream, s jetstream.Stream, tenant storage.Tenant, entrance string, to int64) error {
	name, version := kine.EncodeKey(kine.APICompactKey), int64(0)
	had, err := s.GetLastMsgForSubject(ctx, bucketPrefix(tenant)+name)
	switch {
	case err == nil && had.Header.Get(operationHeader) == "":
		change, err := kine.DecodeChange(had.Data)
		if err != nil {
			// A tenant's own nonsense is written over.
			break
		}
		number, revision, _ := strings.Cut(string(change.KV.Value), "|")
		version, _ = strconv.ParseInt(number, 10, 64)
		if compacted, _ := strconv.ParseInt(revision, 10, 64); compacted >= to {
			return nil
		}
	case err != nil && !errors.Is(err, jetstream.ErrMsgNotFound):
		return err
	}
	note := client.NewMsg(entrance + name)
	note.Data, err = kine.Change{Create: true, KV: &kine.KeyValue{
		Key: kine.APICompactKey, Value: fmt.Appendf(nil, "%d|%d", version+1, to),
	}}.Encode()
	if err != nil {
		return err
	}
	_, err = js.PublishMsg(ctx, note)
	return err
}
