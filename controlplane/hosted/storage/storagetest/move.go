// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

// MoveHarness is two stores between which tenants are moved.
type MoveHarness struct {
	Source, Target Harness
}

// RunMover checks what a storage.Mover adds to the contract of a driver.
func RunMover(t *testing.T, h MoveHarness) {
	t.Helper()
	t.Run("position", h.position)
	t.Run("freeze", h.freeze)
	t.Run("pages", h.pages)
	t.Run("import", h.imports)
	t.Run("late import", h.lateImport)
	t.Run("raise", h.raise)
}

func mover(t *testing.T, h Harness) storage.Mover {
	t.Helper()
	m, ok := h.Driver.(storage.Mover)
	if !ok {
		t.Fatalf("%T is no storage.Mover", h.Driver)
	}
	return m
}

func (h MoveHarness) position(t *testing.T) {
	tn := tenant("pos")
	h.Source.up(t, tn)
	h.Target.up(t, tn)
	source, again, target := h.at(t, h.Source, tn), h.at(t, h.Source, tn), h.at(t, h.Target, tn)
	if source.Store == "" || source.Store != again.Store || source.Store == target.Store {
		t.Errorf("stores %q, again %q, and another %q", source.Store, again.Store, target.Store)
	}
}

func (h MoveHarness) at(t *testing.T, side Harness, tn storage.Tenant) storage.Position {
	t.Helper()
	position, err := mover(t, side).Position(t.Context(), tn)
	if err != nil {
		t.Fatal(err)
	}
	return position
}

// freeze has writers under way when it happens, as an API server has.
func (h MoveHarness) freeze(t *testing.T) {
	tn, m := tenant("cold"), mover(t, h.Source)
	credentials := h.Source.up(t, tn)
	if err := h.Source.Store.Put(tn, credentials, key(tn, "before"), "1"); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var written, refused atomic.Int64
	var writers sync.WaitGroup
	t.Cleanup(func() { stop.Store(true); writers.Wait() })
	for w := range 8 {
		writers.Go(func() {
			for i := 0; !stop.Load(); i++ {
				if err := h.Source.Store.Put(tn, credentials, key(tn, fmt.Sprintf("w%d/k%d", w, i%50)), fmt.Sprint(i)); err != nil {
					refused.Add(1)
					continue
				}
				written.Add(1)
			}
		})
	}
	until(t, "100 writes", func() bool { return written.Load() > 100 })
	seal, err := m.Freeze(t.Context(), tn, "a")
	if err != nil {
		t.Fatal(err)
	}
	frozen := all(t, m, tn, 100)
	refused.Store(0)
	until(t, "refused writes", func() bool { return refused.Load() > 100 })
	if diff := cmp.Diff(frozen, all(t, m, tn, 100)); diff != "" {
		t.Errorf("written after the freeze:\n%s", diff)
	}
	stop.Store(true)
	writers.Wait()
	if again, err := m.Freeze(t.Context(), tn, "a"); err != nil || again != seal {
		t.Errorf("the seal was %q and is %q, %v", seal, again, err)
	}
	// Not a key of the writers: one of them may not have come to its first before the freeze.
	if v, err := h.Source.Store.Value(tn, credentials, key(tn, "before")); err != nil || v != "1" {
		t.Errorf("reading while frozen: %q, %v", v, err)
	}
	if err := m.EnsureTenant(t.Context(), tn, credentials); err != nil {
		t.Fatal(err)
	}
	if err := h.Source.Store.Put(tn, credentials, key(tn, "after"), "1"); err != nil {
		t.Errorf("writing after the freeze has ended: %v", err)
	}
	if broken, err := m.Freeze(t.Context(), tn, "a"); err != nil || broken == seal {
		t.Errorf("the seal is %q although something was written, %v", broken, err)
	}
}

func (h MoveHarness) pages(t *testing.T) {
	tn, m := tenant("pages"), mover(t, h.Source)
	credentials := h.Source.up(t, tn)
	want := map[string]string{}
	for i := range 25 {
		name := fmt.Sprintf("a/%02d", i)
		want[name] = strings.Repeat("v", i)
		if err := h.Source.Store.Put(tn, credentials, key(tn, name), want[name]); err != nil {
			t.Fatal(err)
		}
	}
	// Only the last value of a key counts.
	for _, name := range []string{"a/03", "a/24"} {
		want[name] = "changed"
		if err := h.Source.Store.Put(tn, credentials, key(tn, name), want[name]); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{1, 7, 25, 100} {
		if diff := cmp.Diff(want, all(t, m, tn, limit)); diff != "" {
			t.Errorf("pages of %d:\n%s", limit, diff)
		}
	}
}

func (h MoveHarness) imports(t *testing.T) {
	tn, source, target := tenant("copy"), mover(t, h.Source), mover(t, h.Target)
	from, to := h.Source.up(t, tn), h.Target.up(t, tn)
	for i := range 250 {
		if err := h.Source.Store.Put(tn, from, key(tn, fmt.Sprintf("k%d", i)), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	// Together more than any store takes in one request.
	for i := range 3 {
		if err := h.Source.Store.Put(tn, from, key(tn, fmt.Sprintf("large%d", i)), strings.Repeat("x", 900<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := target.Freeze(t.Context(), tn, "a"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for after, more := "", true; more; {
			page, err := source.Page(t.Context(), tn, after, 100)
			if err != nil {
				t.Fatal(err)
			}
			if err := target.Import(t.Context(), tn, "a", page.Entries); err != nil {
				t.Fatal(err)
			}
			after, more = page.Last, page.More
		}
	}
	if diff := cmp.Diff(all(t, source, tn, 100), all(t, target, tn, 100)); diff != "" {
		t.Errorf("the copy differs:\n%s", diff)
	}
	if v, err := h.Target.Store.Value(tn, to, key(tn, "k7")); err != nil || v != "7" {
		t.Errorf("the tenant reads %q, %v", v, err)
	}
}

func (h MoveHarness) lateImport(t *testing.T) {
	tn, target := tenant("late"), mover(t, h.Target)
	credentials := h.Target.up(t, tn)
	late := []storage.Entry{{Key: "k", Value: []byte("late")}}
	if err := target.Import(t.Context(), tn, "a", late); storage.ReasonOf(err) != storage.ReasonPermissionDenied {
		t.Errorf("never frozen: %v", err)
	}
	if _, err := target.Freeze(t.Context(), tn, "b"); err != nil {
		t.Fatal(err)
	}
	if err := target.Import(t.Context(), tn, "a", late); storage.ReasonOf(err) != storage.ReasonPermissionDenied {
		t.Errorf("of an earlier attempt: %v", err)
	}
	if err := target.EnsureTenant(t.Context(), tn, credentials); err != nil {
		t.Fatal(err)
	}
	if err := h.Target.Store.Put(tn, credentials, key(tn, "k"), "1"); err != nil {
		t.Fatal(err)
	}
	if err := target.Import(t.Context(), tn, "b", late); storage.ReasonOf(err) != storage.ReasonPermissionDenied {
		t.Errorf("after the tenant took over: %v", err)
	}
	if v, err := h.Target.Store.Value(tn, credentials, key(tn, "k")); err != nil || v != "1" {
		t.Errorf("the tenant's own value is %q, %v", v, err)
	}
}

func (h MoveHarness) raise(t *testing.T) {
	tn, m := tenant("raise"), mover(t, h.Target)
	h.Target.up(t, tn)
	to := h.at(t, h.Target, tn).Revision + 3000
	for range 2 {
		if err := m.Raise(t.Context(), tn, to); err != nil {
			t.Fatal(err)
		}
		if at := h.at(t, h.Target, tn).Revision; at < to {
			t.Errorf("raised to %d, wanted %d", at, to)
		}
	}
	if n := len(all(t, m, tn, 100)); n != 0 {
		t.Errorf("the tenant has %d keys", n)
	}
}

// all reads everything of a tenant in pages.
func all(t *testing.T, m storage.Mover, tn storage.Tenant, limit int) map[string]string {
	t.Helper()
	out := map[string]string{}
	for after, more := "", true; more; {
		page, err := m.Page(t.Context(), tn, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range page.Entries {
			if entry.Key <= after || len(page.Entries) > limit {
				t.Fatalf("%q follows %q; %d entries, limit %d", entry.Key, after, len(page.Entries), limit)
			}
			out[entry.Key], after = string(entry.Value), entry.Key
		}
		after, more = page.Last, page.More
	}
	return out
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("no %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
