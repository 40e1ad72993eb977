// SPDX-License-Identifier: Apache-2.0

// Package hello reads the first message of a TLS connection, the ClientHello, without taking part in
// the handshake: it finds the server name and the application protocols the client offers, and keeps
// the bytes so that they can be sent on unchanged.
//
// A ClientHello with post-quantum key shares is longer than one network packet, and may be cut into any
// number of segments and of TLS records, so a Buffer is fed piece by piece until it is complete.
package hello

import (
	"errors"
	"sync"
)

const (
	// MaxMessage is the longest ClientHello accepted, in bytes without record headers: the size of
	// one TLS record. Clients send 300 to 2 000 bytes.
	MaxMessage = 16 << 10
	// maxRaw leaves room for the headers of many records around the longest message.
	maxRaw = MaxMessage + 1<<10
	// maxName is the longest DNS name in its textual form (RFC 1035, without the trailing dot).
	maxName = 253

	recordHeader  = 5
	messageHeader = 4
)

// What can be wrong with the first bytes of a connection. None of them depends on what the client
// sends later, so the connection can be ended at once.
var (
	// ErrNotTLS: the bytes are no TLS handshake record.
	ErrNotTLS = errors.New("not TLS")
	// ErrHTTP: the bytes are a plain-text HTTP request.
	ErrHTTP = errors.New("plain HTTP request")
	// ErrTooLarge: the message is longer than MaxMessage, or cut into too many records.
	ErrTooLarge = errors.New("ClientHello too large")
	// ErrMalformed: TLS, but not a well-formed ClientHello.
	ErrMalformed = errors.New("malformed ClientHello")
	// ErrServerName: the server name is not a DNS name. It is returned by Buffer.ServerName only: a
	// listener that does not route by name need not care.
	ErrServerName = errors.New("server name is not a DNS name")
)

// Buffer collects and parses one ClientHello. The zero value is empty and ready; New takes one from a
// pool, because it is needed only for the first milliseconds of a connection.
type Buffer struct {
	raw [maxRaw]byte // as received, record headers included
	n   int          // bytes of raw in use

	record  int // offset of the first record header not yet walked
	payload int // handshake bytes in the records before it
	records int // how many records were walked

	msg    []byte // the complete message: part of raw when it came in one record, else joined
	joined []byte // kept over Reset, so that it is allocated once
	done   bool
	err    error

	serverName []byte // the extension's host_name as sent, part of msg
	alpn       []byte // the protocol list, checked, part of msg

	name    [maxName]byte
	nameLen int
	nameErr error
}

var pool = sync.Pool{New: func() any { return new(Buffer) }}

// New returns an empty Buffer from the pool.
func New() *Buffer { return pool.Get().(*Buffer) }

// Release empties b and gives it back to the pool. Slices that b returned are invalid afterwards.
func (b *Buffer) Release() {
	b.Reset()
	pool.Put(b)
}

// Reset empties b. The byte arrays are left as they are: n and nameLen say what of them is valid.
func (b *Buffer) Reset() {
	b.n, b.record, b.payload, b.records = 0, 0, 0, 0
	b.msg, b.done, b.err = nil, false, nil
	b.serverName, b.alpn = nil, nil
	b.nameLen, b.nameErr = 0, nil
}

// Free is the space that the next bytes of the connection are to be read into. It is empty only after
// Filled said ErrTooLarge.
func (b *Buffer) Free() []byte { return b.raw[b.n:] }

// Filled takes note of n more bytes in Free and parses what is there. It returns true when the
// ClientHello is complete and well-formed, false and no error when more bytes are needed. An error
// is final.
func (b *Buffer) Filled(n int) (bool, error) {
	b.n += n
	if b.err != nil || b.done {
		return b.done, b.err
	}
	complete, err := b.walk()
	if err == nil && !complete && b.n == len(b.raw) {
		err = ErrTooLarge
	}
	if err == nil && complete {
		err = b.parse()
	}
	b.err, b.done = err, err == nil && complete
	return b.done, b.err
}

// Hold takes note of n more bytes in Free that are not to be parsed yet, because something else comes before the ClientHello.
func (b *Buffer) Hold(n int) { b.n += n }

// Drop removes the first n of the bytes held, and returns how many others there are, which Filled is to be told of.
func (b *Buffer) Drop(n int) int {
	rest := copy(b.raw[:], b.raw[n:b.n])
	b.n = 0
	return rest
}

// Bytes is everything received so far, to be sent on unchanged.
func (b *Buffer) Bytes() []byte { return b.raw[:b.n] }

// ServerName is the normalised name the client asks for: lower case, no trailing dot. It is empty when
// the client named none, as clients do that dial an IP address. ErrServerName when what it named is
// not a DNS host name of at most 253 bytes; IP addresses are none (RFC 6066 section 3).
func (b *Buffer) ServerName() ([]byte, error) { return b.name[:b.nameLen], b.nameErr }

// Offers says whether the client offers the application protocol proto (ALPN).
func (b *Buffer) Offers(proto string) bool {
	for rest := b.alpn; len(rest) > 0; {
		n := int(rest[0])
		if string(rest[1:1+n]) == proto {
			return true
		}
		rest = rest[1+n:]
	}
	return false
}

// Protocols returns the application protocols (ALPN) in the order the client offers them.
func (b *Buffer) Protocols() []string {
	var out []string
	for rest := b.alpn; len(rest) > 0; {
		n := int(rest[0])
		out = append(out, string(rest[1:1+n]))
		rest = rest[1+n:]
	}
	return out
}
