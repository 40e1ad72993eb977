// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"bytes"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRealClients(t *testing.T) {
	long := make([]string, 120)
	for i := range long {
		long[i] = strings.Repeat("p", 100)
	}
	for _, tc := range []struct {
		name   string
		config *tls.Config
		want   string
		alpn   []string
	}{
		{"kubectl", &tls.Config{ServerName: "c1.k8s.example.com", NextProtos: []string{"h2", "http/1.1"}}, "c1.k8s.example.com", []string{"h2", "http/1.1"}},
		{"konnectivity agent", &tls.Config{ServerName: "c1.k8s.example.com", NextProtos: []string{"konnectivity", "h2"}}, "c1.k8s.example.com", []string{"konnectivity", "h2"}},
		{"pod that dials an address", &tls.Config{ServerName: "10.96.0.1"}, "", nil},
		{"pod that dials an IPv6 address", &tls.Config{ServerName: "fd00::1"}, "", nil},
		{"no name", &tls.Config{}, "", nil},
		{"upper case", &tls.Config{ServerName: "C1.K8S.Example.COM"}, "c1.k8s.example.com", nil},
		{"trailing dot", &tls.Config{ServerName: "c1.k8s.example.com."}, "c1.k8s.example.com", nil},
		{"without post-quantum key shares", &tls.Config{ServerName: "c1.example", CurvePreferences: []tls.CurveID{tls.X25519}}, "c1.example", nil},
		{"TLS 1.2", &tls.Config{ServerName: "c1.example", MaxVersion: tls.VersionTLS12}, "c1.example", nil},
		{"nearly 16 KiB", &tls.Config{ServerName: "c1.example", NextProtos: long}, "c1.example", long},
	} {
		t.Run(tc.name, func(t *testing.T) {
			whole := clientHello(t, tc.config)
			for what, raw := range map[string][]byte{
				"one record": whole, "three records": records(whole, len(whole)/3+1), "records of 100 bytes": records(whole, 100),
			} {
				for _, piece := range []int{1, 7, 1460, len(raw)} {
					b := New()
					done, err := feed(b, raw, piece)
					if err != nil || !done {
						t.Fatalf("%s in pieces of %d bytes: done=%v err=%v", what, piece, done, err)
					}
					if got, err := b.ServerName(); string(got) != tc.want || err != nil {
						t.Errorf("%s: server name %q, %v, want %q", what, got, err, tc.want)
					}
					if diff := cmp.Diff(tc.alpn, b.Protocols()); diff != "" {
						t.Errorf("%s: protocols (-want +got):\n%s", what, diff)
					}
					if want := slices.Contains(tc.alpn, "konnectivity"); b.Offers("konnectivity") != want {
						t.Errorf("%s: offers konnectivity = %v", what, !want)
					}
					if !bytes.Equal(b.Bytes(), raw) {
						t.Errorf("%s: the bytes to send on differ from those received", what)
					}
					b.Release()
				}
			}
		})
	}
}

func TestBytesAfterTheHelloAreKept(t *testing.T) {
	raw := append(clientHello(t, &tls.Config{ServerName: "c1.example"}), "early data"...)
	b := New()
	defer b.Release()
	if done, err := feed(b, raw, len(raw)); !done || err != nil {
		t.Fatal(done, err)
	}
	if !bytes.Equal(b.Bytes(), raw) {
		t.Error("bytes behind the ClientHello were lost")
	}
}

func TestRefusedAsSoonAsPossible(t *testing.T) {
	big := message(extension(21, make([]byte, 15000)))
	huge := append([]byte(nil), big...)
	huge[6], huge[7] = 1, 0 // the message claims 64 KiB
	longRecord := []byte{22, 3, 1, 0x40, 0x01}
	for _, tc := range []struct {
		name string
		raw  []byte
		want error
		at   int // byte that must be enough to know; 0: the last
	}{
		{"HTTP", []byte("GET /version HTTP/1.1\r\n\r\n"), ErrHTTP, 4},
		{"HTTP with a long method", []byte("OPTIONS * HTTP/1.1\r\n\r\n"), ErrHTTP, 8},
		{"HTTP/2 preface", []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), ErrHTTP, 4},
		{"SSH", []byte("SSH-2.0-OpenSSH_9.9\r\n"), ErrNotTLS, 1},
		{"nearly HTTP", []byte("GETTING"), ErrNotTLS, 4},
		{"zeros", make([]byte, 100), ErrNotTLS, 1},
		{"alert first", []byte{21, 3, 1, 0, 2, 2, 112}, ErrNotTLS, 1},
		{"SSL 2", []byte{0x80, 0x2e, 1, 3, 1}, ErrNotTLS, 1},
		{"major version", []byte{22, 2}, ErrNotTLS, 2},
		{"empty record", []byte{22, 3, 1, 0, 0}, ErrMalformed, 5},
		{"record too long", longRecord, ErrTooLarge, 5},
		{"ServerHello", []byte{22, 3, 1, 0, 50, 2}, ErrMalformed, 6},
		{"message too long", huge, ErrTooLarge, 9},
		{"other record in between", append(records(message(hostName("a.example")), 20)[:25], 23, 3, 3, 0, 1, 0), ErrMalformed, 26},
		{"short body", []byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 3}, ErrMalformed, 0},
		{"extension beyond the block", message([]byte{0, 0, 0, 9, 0}), ErrMalformed, 0},
		{"empty server name list", message(extension(0, []byte{0, 0})), ErrMalformed, 0},
		{"empty server name", message(hostName("")), ErrMalformed, 0},
		{"two server name extensions", message(append(hostName("a.example"), hostName("b.example")...)), ErrMalformed, 0},
		{"empty protocol", message(alpn("h2", "")), ErrMalformed, 0},
		{"records of one byte", records(big, 1), ErrTooLarge, maxRaw},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := New()
			defer b.Release()
			done, err := feed(b, tc.raw, 1)
			if done || !errors.Is(err, tc.want) {
				t.Fatalf("done=%v err=%v, want %v", done, err, tc.want)
			}
			want := tc.at
			if want == 0 {
				want = len(tc.raw)
			}
			if b.n != want {
				t.Errorf("refused after %d bytes, want %d", b.n, want)
			}
			if _, again := b.Filled(0); !errors.Is(again, tc.want) {
				t.Errorf("the refusal is not final: %v", again)
			}
		})
	}
}

func TestServerNames(t *testing.T) {
	label := strings.Repeat("a", 63)
	longest := strings.Join([]string{label, label, label, strings.Repeat("b", 61)}, ".")
	for in, want := range map[string]string{
		"a":                  "a",
		"A-1.Example.":       "a-1.example",
		"1a.2b":              "1a.2b",
		"10.0.0.1.example":   "10.0.0.1.example",
		longest:              longest,
		longest + ".":        longest,
		"10.0.0.1":           "",
		"1.2.3":              "",
		"fd00::1":            "",
		"[fd00::1]":          "",
		".":                  "",
		"a..b":               "",
		".a":                 "",
		"a..":                "",
		"-a.example":         "",
		"a-.example":         "",
		"a.example-":         "",
		"a_b.example":        "",
		"a\x00.example":      "",
		"a.example\x00":      "",
		"*.example":          "",
		"public|sni|a":       "",
		"bücher.example":     "",
		label + "a.example":  "",
		longest + "b":        "",
		"a.example:6443":     "",
		"a.example.\r\nHost": "",
	} {
		t.Run(in, func(t *testing.T) {
			b := New()
			defer b.Release()
			raw := message(hostName(in))
			if done, err := feed(b, raw, len(raw)); !done || err != nil {
				t.Fatalf("a bad name must not make the hello bad: %v, %v", done, err)
			}
			got, err := b.ServerName()
			if string(got) != want || (want == "") != errors.Is(err, ErrServerName) {
				t.Errorf("%q, %v, want %q", got, err, want)
			}
		})
	}
}

func TestOddButLegal(t *testing.T) {
	type entry = struct {
		kind byte
		name string
	}
	grease := extension(0x0a0a, []byte{0})
	for _, tc := range []struct {
		name string
		raw  []byte
		want string
		alpn []string
	}{
		{"GREASE around", message(slices.Concat(grease, hostName("a.example"), alpn("\x0a\x0a", "h2"), extension(0xfafa, nil))), "a.example", []string{"\x0a\x0a", "h2"}},
		{"name of an unknown type first", message(serverNames(entry{7, "x"}, entry{0, "a.example"})), "a.example", nil},
		{"first of two host names", message(serverNames(entry{0, "a.example"}, entry{0, "b.example"})), "a.example", nil},
		{"only a name of an unknown type", message(serverNames(entry{7, "x"})), "", nil},
		{"no extension", message(nil), "", nil},
		{"no extension block", []byte("\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03" + strings.Repeat("r", 32) + "\x00\x00\x02\x13\x01\x01\x00"), "", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := New()
			defer b.Release()
			if done, err := feed(b, tc.raw, 1); !done || err != nil {
				t.Fatal(done, err)
			}
			if got, err := b.ServerName(); string(got) != tc.want || err != nil {
				t.Errorf("server name %q, %v, want %q", got, err, tc.want)
			}
			if diff := cmp.Diff(tc.alpn, b.Protocols()); diff != "" {
				t.Errorf("protocols (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoAllocation(t *testing.T) {
	whole := clientHello(t, &tls.Config{ServerName: "c1.k8s.example.com", NextProtos: []string{"konnectivity", "h2"}})
	cut := records(whole, 500)
	b := new(Buffer)
	if _, err := feed(b, cut, len(cut)); err != nil { // the copy of a cut message is allocated once per buffer
		t.Fatal(err)
	}
	for _, raw := range [][]byte{whole, cut} {
		if n := testing.AllocsPerRun(100, func() {
			b.Reset()
			done, err := feed(b, raw, 512)
			name, nameErr := b.ServerName()
			if !done || err != nil || nameErr != nil || len(name) == 0 || !b.Offers("konnectivity") {
				t.Fatal("not parsed")
			}
		}); n != 0 {
			t.Errorf("%v allocations per ClientHello", n)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	raw := clientHello(b, &tls.Config{ServerName: "c1.k8s.example.com", NextProtos: []string{"h2", "http/1.1"}})
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		buf := New()
		if done, err := feed(buf, raw, len(raw)); !done || err != nil {
			b.Fatal(done, err)
		}
		buf.Release()
	}
}
