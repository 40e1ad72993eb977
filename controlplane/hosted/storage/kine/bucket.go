// SPDX-License-Identifier: Apache-2.0

package kine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/klauspost/compress/s2"
)

// In NATS kine keeps an etcd in a bucket: one message for each change of a key,
// whose sequence is the revision.

const (
	// meta begins the names of keys that don't begin with a slash.
	meta = "meta"
	// MetaKeys are the names of all of them.
	MetaKeys = meta + ".>"
	// changeLimit bounds what a message may expand to: it may have been written by
	// somebody else than kine. An object of 1.5 MiB is 2 MiB in JSON.
	changeLimit = 8 << 20
	// The alphabets of a name, and of numbers of that base in math/big.
	alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	digits   = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"
)

// base is the number of characters that a name is written with.
const base = len(alphabet)

// Change is what a message says about a key.
type Change struct {
	// KV is the key as it is afterwards, or was before its deletion.
	KV *KeyValue
	// PrevRevision is that of the change before, 0 for none.
	PrevRevision   int64
	Create, Delete bool
}

// KeyValue is a key in a Change. CreateRevision is 0 in the change that creates
// it, and ModRevision is that of the message, whatever is written there.
type KeyValue struct {
	Key                                  string
	Value                                []byte
	Version, CreateRevision, ModRevision int64
	// Lease is how many seconds the key lives from the time of the message, 0 for ever.
	Lease int64
}

// Encode returns the body of a message.
func (c Change) Encode() ([]byte, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := s2.NewWriter(&out, s2.WriterConcurrency(1))
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// DecodeChange reads the body of a message.
func DecodeChange(body []byte) (Change, error) {
	var c Change
	text, err := io.ReadAll(io.LimitReader(s2.NewReader(bytes.NewReader(body), s2.ReaderAllocBlock(1024)), changeLimit+1))
	if err != nil {
		return c, err
	}
	if len(text) > changeLimit {
		return c, fmt.Errorf("it expands to more than %d bytes", changeLimit)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, err
	}
	if c.KV == nil {
		return c, errors.New("it is about no key")
	}
	return c, nil
}

// EncodeKey returns the name of a key in a bucket: its parts, each as a number of
// base 58, with dots in between. An empty part is encoded as a slash.
func EncodeKey(key string) string {
	rest, rooted := strings.CutPrefix(key, "/")
	var out []string
	if !rooted {
		out = append(out, meta)
	}
	for part := range strings.SplitSeq(rest, "/") {
		if part == "" {
			part = "/"
		}
		out = append(out, encodePart(part))
	}
	return strings.Join(out, ".")
}

// DecodeKey returns the key of a name. It fails for one that EncodeKey doesn't give.
func DecodeKey(name string) (string, error) {
	rest, rootless := strings.CutPrefix(name, meta+".")
	var out []string
	for text := range strings.SplitSeq(rest, ".") {
		part, ok := decodePart(text)
		if !ok {
			return "", fmt.Errorf("%q is the name of no key of kine", name)
		}
		if part == "/" {
			part = ""
		}
		out = append(out, part)
	}
	key := strings.Join(out, "/")
	if !rootless {
		key = "/" + key
	}
	if EncodeKey(key) != name {
		return "", fmt.Errorf("%q is the name of no key of kine", name)
	}
	return key, nil
}

// encodePart writes bytes as a number; zeros in front are ones.
func encodePart(part string) string {
	rest := strings.TrimLeft(part, "\x00")
	out := []byte(strings.Repeat(alphabet[:1], len(part)-len(rest)))
	if rest == "" {
		return string(out)
	}
	for _, digit := range []byte(new(big.Int).SetBytes([]byte(rest)).Text(base)) {
		out = append(out, alphabet[strings.IndexByte(digits, digit)])
	}
	return string(out)
}

func decodePart(text string) (string, bool) {
	rest := strings.TrimLeft(text, alphabet[:1])
	zeros := strings.Repeat("\x00", len(text)-len(rest))
	if rest == "" {
		return zeros, text != ""
	}
	number := make([]byte, len(rest))
	for i := range number {
		digit := strings.IndexByte(alphabet, rest[i])
		if digit < 0 {
			return "", false
		}
		number[i] = digits[digit]
	}
	n, ok := new(big.Int).SetString(string(number), base)
	if !ok {
		return "", false
	}
	return zeros + string(n.Bytes()), true
}
