// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Somebody writes another authority into the Secret of a tenant in use.
func TestReplacedAuthority(t *testing.T) {
	fresh := Input{SANs: names, Konnectivity: true, Now: start}
	before, other := mustIssue(t, fresh), mustIssue(t, fresh)
	again := func(data map[string]map[string][]byte, inUse []byte) Result {
		t.Helper()
		in := fresh
		in.Existing, in.InUse = clone(data), inUse
		return mustIssue(t, in)
	}
	replaced := clone(before.Data)
	replaced[CA] = maps.Clone(other.Data[CA])

	t.Run("the key is lost", func(t *testing.T) {
		now := again(replaced, before.Data[CA]["ca.crt"])
		if diff := cmp.Diff([]string{CA}, now.Changed); diff != "" || PhaseOf(now.Data[CA]) != Retiring || !hasNote(now, CA, Replaced) {
			t.Fatalf("phase %q, notes %v, changed (-want +got):\n%s", PhaseOf(now.Data[CA]), now.Notes, diff)
		}
		meet(t, now, before, start)
		meet(t, before, before, start)
		if err := trusts(before.Data[CA]["ca.crt"], now.Data[APIServer]["apiserver.crt"], start); err != nil {
			t.Errorf("a node from before doesn't accept the server: %v", err)
		}
		if err := trusts(before.Data[CA]["ca.crt"], now.Data[APIServerKubeletClient]["apiserver-kubelet-client.crt"], start); err != nil {
			t.Errorf("a kubelet from before doesn't accept the server as a client: %v", err)
		}
		meet(t, now, now, start)
		next := again(now.Data, now.Data[CA]["ca.crt"])
		if len(next.Changed)+len(next.Notes) > 0 {
			t.Errorf("a second pass changes %v, %v", next.Changed, next.Notes)
		}
		in := fresh
		in.Existing, in.InUse, in.Advance = clone(next.Data), next.Data[CA]["ca.crt"], only(CA)
		end := mustIssue(t, in)
		if PhaseOf(end.Data[CA]) != Settled || trusts(other.Data[CA]["ca.crt"], end.Data[APIServer]["apiserver.crt"], start) != nil {
			t.Errorf("phase %q: the one that was put there doesn't sign", PhaseOf(end.Data[CA]))
		}
	})
	t.Run("a copy is left", func(t *testing.T) {
		half := clone(before.Data)
		half[CA]["ca.crt"], half[CA]["ca.key"] = other.Data[CA]["ca.crt"], other.Data[CA]["ca.key"]
		now := again(half, before.Data[CA]["ca.crt"])
		if diff := cmp.Diff(before.Data, now.Data); diff != "" || !hasNote(now, CA, Repaired) {
			t.Errorf("notes %v, (-want +got):\n%s", now.Notes, diff)
		}
	})
	t.Run("the user's own is where it comes from", func(t *testing.T) {
		own, err := ParseAuthority(before.Data[CA]["ca.crt"], before.Data[CA]["ca.key"])
		if err != nil {
			t.Fatal(err)
		}
		in := fresh
		in.Existing, in.InUse, in.Own = clone(replaced), before.Data[CA]["ca.crt"], own
		now := mustIssue(t, in)
		if diff := cmp.Diff(before.Data, now.Data); diff != "" || !hasNote(now, CA, Repaired) {
			t.Errorf("notes %v, (-want +got):\n%s", now.Notes, diff)
		}
	})
	t.Run("nothing trusts another one", func(t *testing.T) {
		now := again(map[string]map[string][]byte{CA: other.Data[CA]}, nil)
		if diff := cmp.Diff(other.Data[CA], now.Data[CA]); diff != "" || slices.Contains(now.Changed, CA) {
			t.Errorf("a restored authority was changed (-want +got):\n%s", diff)
		}
	})
	t.Run("key of tokens", func(t *testing.T) {
		half := clone(before.Data)
		half[ServiceAccount]["sa.key"] = other.Data[ServiceAccount]["sa.key"]
		now := again(half, before.Data[CA]["ca.crt"])
		meet(t, now, before, start)
		meet(t, now, now, start)
		if !hasNote(now, ServiceAccount, Repaired) || PhaseOf(now.Data[ServiceAccount]) != Retiring {
			t.Errorf("phase %q, notes %v", PhaseOf(now.Data[ServiceAccount]), now.Notes)
		}
	})
}
