// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

// FuzzParse holds the parser against crypto/tls: what that server accepts must be read the same way,
// whatever pieces it comes in, and no input may do harm.
func FuzzParse(f *testing.F) {
	seed := clientHello(f, &tls.Config{ServerName: "c1.k8s.example.com", NextProtos: []string{"konnectivity", "h2"}})
	f.Add(seed, uint16(1460))
	f.Add(records(seed, 300), uint16(1))
	f.Add(clientHello(f, &tls.Config{ServerName: "10.0.0.1"}), uint16(100))
	f.Add(clientHello(f, &tls.Config{ServerName: "C1.Example", MaxVersion: tls.VersionTLS12}), uint16(9))
	f.Add(message(slices.Concat(extension(0x1a1a, nil), hostName("a.example."), alpn("h2"))), uint16(5))
	f.Add(message(hostName("10.0.0.1")), uint16(5))
	f.Add(message(nil), uint16(5))
	f.Add([]byte("GET / HTTP/1.1\r\n"), uint16(3))
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 3}, uint16(1))

	f.Fuzz(func(t *testing.T, raw []byte, piece uint16) {
		b := New()
		defer b.Release()
		done, err := feed(b, raw, int(piece)+1)
		if done && err != nil {
			t.Fatalf("complete and refused: %v", err)
		}
		whole := New()
		defer whole.Release()
		if again, wholeErr := feed(whole, raw, max(len(raw), 1)); again != done || !errors.Is(wholeErr, err) {
			t.Fatalf("in pieces of %d bytes: %v, %v; at once: %v, %v", int(piece)+1, done, err, again, wholeErr)
		}
		name, protocols, accepted := reference(raw)
		if !accepted {
			return
		}
		if !done {
			if !stricter(raw, err) {
				t.Fatalf("crypto/tls accepts what was refused: %v", err)
			}
			return
		}
		if !slices.Equal(b.Protocols(), protocols) {
			t.Fatalf("protocols %q, crypto/tls reads %q", b.Protocols(), protocols)
		}
		compareName(t, b, name)
	})
}

// stricter says whether a refusal is one of those that crypto/tls does not make: alerts or other
// records before or inside the message, record versions that no client sends, and messages over 16 KiB.
func stricter(raw []byte, err error) bool {
	if errors.Is(err, ErrTooLarge) {
		return true
	}
	for len(raw) >= recordHeader {
		if raw[0] != typeHandshake || raw[1] != 3 || raw[2] > 4 {
			return true
		}
		raw = raw[min(len(raw), recordHeader+int(raw[3])<<8+int(raw[4])):]
	}
	return len(raw) > 0 && (raw[0] != typeHandshake || len(raw) > 1 && raw[1] != 3)
}

// compareName wants the name that crypto/tls reads, in the form that routes have.
func compareName(t *testing.T, b *Buffer, name string) {
	t.Helper()
	got, err := b.ServerName()
	if name == "" {
		if len(got) > 0 || err != nil {
			t.Fatalf("server name %q, %v, crypto/tls reads none", got, err)
		}
		return
	}
	want, refused := route.NormalizeHost(name)
	switch {
	case err == nil && (refused != nil || string(got) != want):
		t.Fatalf("server name %q, want %q, %v", got, want, refused)
	case err != nil && refused == nil && strings.Trim(want[strings.LastIndexByte(want, '.')+1:], "0123456789") != "":
		t.Fatalf("server name %q refused: %v", name, err)
	}
}
