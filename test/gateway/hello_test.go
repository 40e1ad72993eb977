// SPDX-License-Identifier: Apache-2.0

package gateway

import "encoding/binary"

// clientHello is a ClientHello with any server name ("" sends none) and protocols: crypto/tls would refuse to send some of the names
// that a gateway has to stand. It is complete enough for any parser, and for none of the servers here to answer.
func clientHello(name string, protocols ...string) []byte {
	var extensions []byte
	if name != "" {
		entry := append([]byte{0}, sized(2, []byte(name))...)
		extensions = append(extensions, extension(0, sized(2, entry))...)
	}
	if len(protocols) > 0 {
		var list []byte
		for _, p := range protocols {
			list = append(list, sized(1, []byte(p))...)
		}
		extensions = append(extensions, extension(16, sized(2, list))...)
	}
	extensions = append(extensions, extension(43, sized(1, []byte{3, 4, 3, 3}))...) // versions 1.3 and 1.2
	extensions = append(extensions, extension(10, sized(2, []byte{0, 29}))...)      // group x25519
	extensions = append(extensions, extension(13, sized(2, []byte{4, 3, 8, 4}))...) // signatures
	extensions = append(extensions, extension(51, sized(2, append([]byte{0, 29}, sized(2, make([]byte, 32))...)))...)
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0)                                           // session
	body = append(body, sized(2, []byte{0x13, 0x01, 0xc0, 0x2b})...) // ciphers
	body = append(body, 1, 0)                                        // compression
	body = append(body, sized(2, extensions)...)
	handshake := append([]byte{1}, sized(3, body)...)
	return append([]byte{22, 3, 1}, sized(2, handshake)...)
}

func extension(kind uint16, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, kind), sized(2, data)...)
}

// sized is data behind its length, in a number of bytes.
func sized(bytes int, data []byte) []byte {
	length := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	return append(length[4-bytes:], data...)
}
