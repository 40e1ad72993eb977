// SPDX-License-Identifier: Apache-2.0

package kine_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/kine"
)

// The names are those that kine 0.16.4 gives; storagetest.StartKine shows that it reads ours.
func TestKeysOfBuckets(t *testing.T) {
	for key, name := range map[string]string{
		"/registry/health":          "L8nZchjdPLL.tzCUBDXD",
		"compact_rev_key_apiserver": "meta.h1ctazrDGbqvwPuDySV8QCGFrjddCjbkRf",
		"/a//b":                     "2g.p.2h",
		"/a/":                       "2g.p",
		"/\x00\x00a/\x00":           "112g.1",
		"/\xff\xfe/ü":               "LUu.Ftw",
	} {
		if got := kine.EncodeKey(key); got != name {
			t.Errorf("%q: got %q, want %q", key, got, name)
		}
		if got, err := kine.DecodeKey(name); err != nil || got != key {
			t.Errorf("%q: got %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"", ".", "a..b", "0", "l", "meta", "meta.", "2g.meta", "2g.*", "ü"} {
		if key, err := kine.DecodeKey(name); err == nil && kine.EncodeKey(key) != name {
			t.Errorf("%q is taken for %q", name, key)
		}
	}
}

func FuzzKeysOfBuckets(f *testing.F) {
	f.Add("/registry/a", "L8nZchjdPLL.2g")
	f.Add("x//", "meta..")
	f.Fuzz(func(t *testing.T, key, name string) {
		if key != "" && key != "/" {
			if got, err := kine.DecodeKey(kine.EncodeKey(key)); err == nil && got != key {
				t.Errorf("%q comes back as %q", key, got)
			}
		}
		if got, err := kine.DecodeKey(name); err == nil && kine.EncodeKey(got) != name {
			t.Errorf("%q and %q are the same key", name, kine.EncodeKey(got))
		}
	})
}

func TestChanges(t *testing.T) {
	want := kine.Change{KV: &kine.KeyValue{Key: "/registry/a", Value: []byte("\x00\xff"), Lease: 5}, PrevRevision: 7, Create: true}
	body, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := kine.DecodeChange(body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A tenant may have written anything.
func TestChangesOfOthers(t *testing.T) {
	pack := func(text string) []byte {
		var out bytes.Buffer
		w := s2.NewWriter(&out)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
		return out.Bytes()
	}
	bomb := pack(`{"KV":{"Key":"` + strings.Repeat("a", 64<<20) + `"}}`)
	if len(bomb) > 4<<20 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	for name, body := range map[string][]byte{
		"nothing": nil, "plain": []byte("value"), "no JSON": pack("value"), "no key": pack("{}"), "another type": pack(`{"KV":3}`), "bomb": bomb,
	} {
		if got, err := kine.DecodeChange(body); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
