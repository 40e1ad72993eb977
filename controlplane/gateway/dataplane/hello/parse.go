// SPDX-License-Identifier: Apache-2.0

package hello

import "slices"

const (
	typeHandshake   = 22
	typeClientHello = 1

	extServerName = 0
	extALPN       = 16
)

// walk follows the record headers and says whether the records received hold the whole message. It
// never looks at a byte twice except for the record that is still incomplete, so a client that sends
// single bytes costs no more than one that does not.
func (b *Buffer) walk() (bool, error) {
	for {
		rest := b.raw[b.record:b.n]
		if err := checkRecord(rest, b.records == 0); err != nil {
			return false, err
		}
		if len(rest) < recordHeader || rest[0] != typeHandshake {
			return false, nil // or the start of an HTTP method
		}
		length := int(rest[3])<<8 | int(rest[4])
		if b.records == 0 {
			if err := checkMessage(rest[recordHeader:min(len(rest), recordHeader+length)]); err != nil {
				return false, err
			}
		}
		if len(rest) < recordHeader+length {
			return false, nil
		}
		b.record += recordHeader + length
		b.payload += length
		b.records++
		if complete, err := b.assemble(); complete || err != nil {
			return complete, err
		}
	}
}

// checkRecord judges the bytes of a record header there are so far. Only the first record may turn out
// to be another protocol; a later one is then a malformed ClientHello.
func checkRecord(h []byte, first bool) error {
	other := ErrMalformed
	if first {
		other = ErrNotTLS
		if len(h) > 0 && h[0] != typeHandshake {
			return plainText(h)
		}
	}
	if len(h) > 0 && h[0] != typeHandshake {
		return other
	}
	if len(h) > 1 && h[1] != 3 || len(h) > 2 && h[2] > 4 {
		return other
	}
	if len(h) >= recordHeader {
		switch length := int(h[3])<<8 | int(h[4]); {
		case length == 0:
			return ErrMalformed
		case length > MaxMessage:
			return ErrTooLarge
		}
	}
	return nil
}

// plainText tells an HTTP request from other bytes that are not TLS. Nil means: it may still become
// HTTP, read on.
func plainText(h []byte) error {
	for _, method := range [...]string{"GET ", "HEAD ", "POST ", "PUT ", "PATCH ", "DELETE ", "OPTIONS ", "CONNECT ", "TRACE ", "PRI "} {
		switch {
		case len(h) >= len(method) && string(h[:len(method)]) == method:
			return ErrHTTP
		case len(h) < len(method) && string(h) == method[:len(h)]:
			return nil
		}
	}
	return ErrNotTLS
}

// checkMessage judges the first bytes of the handshake message, in the first record.
func checkMessage(m []byte) error {
	if len(m) > 0 && m[0] != typeClientHello {
		return ErrMalformed
	}
	if len(m) >= messageHeader && messageLength(m) > MaxMessage-messageHeader {
		return ErrTooLarge
	}
	return nil
}

func messageLength(m []byte) int { return int(m[1])<<16 | int(m[2])<<8 | int(m[3]) }

// assemble says whether the records walked hold the whole message and makes msg that message. The
// message in one record, as all clients send it, needs no copy.
func (b *Buffer) assemble() (bool, error) {
	if b.payload < messageHeader {
		return false, nil
	}
	var head [messageHeader]byte
	b.gather(head[:])
	if err := checkMessage(head[:]); err != nil {
		return false, err
	}
	need := messageHeader + messageLength(head[:])
	if b.payload < need {
		return false, nil
	}
	if b.records == 1 {
		b.msg = b.raw[recordHeader : recordHeader+need]
		return true, nil
	}
	b.joined = slices.Grow(b.joined[:0], need)[:need]
	b.gather(b.joined)
	b.msg = b.joined
	return true, nil
}

// gather copies the first len(dst) handshake bytes out of the records.
func (b *Buffer) gather(dst []byte) {
	for at := 0; len(dst) > 0; {
		length := int(b.raw[at+3])<<8 | int(b.raw[at+4])
		at += recordHeader
		n := copy(dst, b.raw[at:at+length])
		dst = dst[n:]
		at += length
	}
}

// cursor reads length-prefixed fields. ok turns false at the first field that is not there, and all
// later reads are empty then.
type cursor struct {
	rest []byte
	ok   bool
}

func (c *cursor) take(n int) []byte {
	if n > len(c.rest) {
		c.ok, c.rest = false, nil
		return nil
	}
	out := c.rest[:n]
	c.rest = c.rest[n:]
	return out
}

func (c *cursor) uint8() int {
	if v := c.take(1); v != nil {
		return int(v[0])
	}
	return 0
}

func (c *cursor) uint16() int {
	if v := c.take(2); v != nil {
		return int(v[0])<<8 | int(v[1])
	}
	return 0
}

// parse reads the message (RFC 8446 section 4.1.2) as far as its extensions. GREASE values (RFC 8701)
// are extensions, ciphers and protocols like others: unknown ones are skipped.
func (b *Buffer) parse() error {
	c := cursor{rest: b.msg[messageHeader:], ok: true}
	c.take(2 + 32)     // legacy_version, random
	c.take(c.uint8())  // legacy_session_id
	c.take(c.uint16()) // cipher_suites
	c.take(c.uint8())  // legacy_compression_methods
	if c.ok && len(c.rest) == 0 {
		return nil // an old client without extensions
	}
	extensions := cursor{rest: c.take(c.uint16()), ok: true}
	if !c.ok || len(c.rest) > 0 {
		return ErrMalformed
	}
	for len(extensions.rest) > 0 {
		kind := extensions.uint16()
		data := extensions.take(extensions.uint16())
		if !extensions.ok {
			return ErrMalformed
		}
		var ok = true
		switch kind {
		case extServerName:
			ok = b.serverName == nil && b.parseServerName(data)
		case extALPN:
			ok = b.alpn == nil && b.parseALPN(data)
		}
		if !ok {
			return ErrMalformed
		}
	}
	if b.serverName != nil {
		b.nameLen, b.nameErr = normalise(&b.name, b.serverName)
	}
	return nil
}

// parseServerName keeps the first host_name of the list (RFC 6066 section 3); there may be only one.
func (b *Buffer) parseServerName(data []byte) bool {
	c := cursor{rest: data, ok: true}
	list := cursor{rest: c.take(c.uint16()), ok: true}
	if !c.ok || len(c.rest) > 0 || len(list.rest) == 0 {
		return false
	}
	for len(list.rest) > 0 {
		kind := list.uint8()
		name := list.take(list.uint16())
		if !list.ok || len(name) == 0 {
			return false
		}
		if kind == 0 && b.serverName == nil {
			b.serverName = name
		}
	}
	return true
}

// parseALPN checks the list (RFC 7301 section 3.1), so that it can be walked without checks later.
func (b *Buffer) parseALPN(data []byte) bool {
	c := cursor{rest: data, ok: true}
	list := c.take(c.uint16())
	if !c.ok || len(c.rest) > 0 || len(list) == 0 {
		return false
	}
	for p := (cursor{rest: list, ok: true}); len(p.rest) > 0; {
		if proto := p.take(p.uint8()); !p.ok || len(proto) == 0 {
			return false
		}
	}
	b.alpn = list
	return true
}

// normalise writes name to dst in the form routes are looked up by. Labels are letters, digits and
// hyphens. A name whose last label is all digits is an IPv4
// address or something that software takes for one, so it is none.
func normalise(dst *[maxName]byte, name []byte) (int, error) {
	if n := len(name); n > 0 && name[n-1] == '.' {
		name = name[:n-1]
	}
	if len(name) == 0 || len(name) > maxName {
		return 0, ErrServerName
	}
	label, digits := 0, true
	for i, ch := range name {
		switch {
		case 'A' <= ch && ch <= 'Z':
			ch += 'a' - 'A'
			digits = false
		case 'a' <= ch && ch <= 'z':
			digits = false
		case '0' <= ch && ch <= '9':
		case ch == '-':
			if label == 0 || i+1 == len(name) || name[i+1] == '.' {
				return 0, ErrServerName
			}
			digits = false
		case ch == '.':
			if label == 0 {
				return 0, ErrServerName
			}
			dst[i] = ch
			label, digits = 0, true
			continue
		default:
			return 0, ErrServerName
		}
		dst[i] = ch
		if label++; label > 63 {
			return 0, ErrServerName
		}
	}
	if label == 0 || digits {
		return 0, ErrServerName
	}
	return len(name), nil
}
