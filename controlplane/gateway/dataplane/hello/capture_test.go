// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
)

// script is a connection that reads from in and keeps what is written; it never blocks.
type script struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s *script) Close() error                { return nil }

// clientHello is the first flight of the real crypto/tls client.
func clientHello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	s := &script{in: bytes.NewReader(nil)}
	if config.ServerName == "" {
		config.InsecureSkipVerify = true
	}
	if err := tls.Client(s, config).Handshake(); !errors.Is(err, io.EOF) {
		t.Fatalf("handshake without a server: %v", err)
	}
	return s.out.Bytes()
}

// reference is what the real crypto/tls server understands of the same bytes; false when it refuses them.
func reference(raw []byte) (name string, protocols []string, ok bool) {
	seen := errors.New("seen")
	server := tls.Server(&script{in: bytes.NewReader(raw)}, &tls.Config{
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			name, protocols, ok = info.ServerName, info.SupportedProtos, true
			return nil, seen
		},
	})
	_ = server.HandshakeContext(context.Background())
	return name, protocols, ok
}

// records cuts the one record in raw into records of n bytes.
func records(raw []byte, n int) []byte {
	var out []byte
	for rest := raw[recordHeader:]; len(rest) > 0; {
		size := min(n, len(rest))
		out = append(out, raw[0], raw[1], raw[2], byte(size>>8), byte(size))
		out = append(out, rest[:size]...)
		rest = rest[size:]
	}
	return out
}

// message wraps a ClientHello body with the given extension block into one record.
func message(extensions []byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 0x01, 1, 0)
	body = append(body, byte(len(extensions)>>8), byte(len(extensions)))
	body = append(body, extensions...)
	msg := append([]byte{typeClientHello, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	return append([]byte{typeHandshake, 3, 1, byte(len(msg) >> 8), byte(len(msg))}, msg...)
}

func extension(kind int, data []byte) []byte {
	return append([]byte{byte(kind >> 8), byte(kind), byte(len(data) >> 8), byte(len(data))}, data...)
}

// serverNames is a server_name extension with entries of the given types.
func serverNames(entries ...struct {
	kind byte
	name string
}) []byte {
	var list []byte
	for _, e := range entries {
		list = append(list, e.kind, byte(len(e.name)>>8), byte(len(e.name)))
		list = append(list, e.name...)
	}
	return extension(extServerName, append([]byte{byte(len(list) >> 8), byte(len(list))}, list...))
}

func hostName(name string) []byte {
	return serverNames(struct {
		kind byte
		name string
	}{0, name})
}

func alpn(protocols ...string) []byte {
	var list []byte
	for _, p := range protocols {
		list = append(append(list, byte(len(p))), p...)
	}
	return extension(extALPN, append([]byte{byte(len(list) >> 8), byte(len(list))}, list...))
}

// feed gives raw to an empty buffer in pieces of at most n bytes, and stops where the buffer has its answer.
func feed(b *Buffer, raw []byte, n int) (done bool, err error) {
	for len(raw) > 0 && !done && err == nil {
		size := copy(b.Free(), raw[:min(n, len(raw))])
		raw = raw[size:]
		done, err = b.Filled(size)
	}
	return done, err
}
