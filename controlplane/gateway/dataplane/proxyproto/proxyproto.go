// SPDX-License-Identifier: Apache-2.0

// Package proxyproto reads the header of the PROXY protocol, versions 1 and 2, with which a load balancer says whose connection it
// passes on.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

const (
	signature1 = "PROXY "
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"
	// maxLine is the longest header of version 1, with its CRLF.
	maxLine = 107
	// header2 is the fixed part of version 2: signature, version and command, family and protocol, length of the rest.
	header2 = len(signature2) + 4
)

var (
	// ErrIncomplete: more bytes are needed.
	ErrIncomplete = errors.New("incomplete PROXY protocol header")
	// ErrMalformed: the bytes are no header of the PROXY protocol.
	ErrMalformed = errors.New("malformed PROXY protocol header")
)

// Parse reads the header at the start of data. It returns its length and the client's address, which is invalid when the load balancer
// speaks for itself (LOCAL, UNKNOWN) or the client has no TCP address.
func Parse(data []byte) (size int, client netip.AddrPort, err error) {
	switch {
	case starts(data, signature2):
		return version2(data)
	case starts(data, signature1):
		return version1(data)
	}
	return 0, netip.AddrPort{}, ErrMalformed
}

// starts says whether data begins with signature, as far as it goes.
func starts(data []byte, signature string) bool {
	n := min(len(data), len(signature))
	return string(data[:n]) == signature[:n]
}

// version1 is a line of text: PROXY TCP4 <client> <destination> <client port> <destination port>.
func version1(data []byte) (int, netip.AddrPort, error) {
	end := bytes.IndexByte(data[:min(len(data), maxLine)], '\n')
	if end < 0 {
		if len(data) >= maxLine {
			return 0, netip.AddrPort{}, ErrMalformed
		}
		return 0, netip.AddrPort{}, ErrIncomplete
	}
	line, found := strings.CutSuffix(string(data[:end]), "\r")
	fields := strings.Split(line, " ")
	if !found || len(fields) < 2 {
		return 0, netip.AddrPort{}, ErrMalformed
	}
	if fields[1] == "UNKNOWN" {
		return end + 1, netip.AddrPort{}, nil
	}
	if len(fields) != 6 || fields[1] != "TCP4" && fields[1] != "TCP6" {
		return 0, netip.AddrPort{}, ErrMalformed
	}
	client, err := address(fields[2], fields[4])
	if _, other := address(fields[3], fields[5]); err != nil || other != nil || client.Addr().Is4() != (fields[1] == "TCP4") {
		return 0, netip.AddrPort{}, ErrMalformed
	}
	return end + 1, unmapped(client), nil
}

func address(host, port string) (netip.AddrPort, error) {
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" {
		return netip.AddrPort{}, ErrMalformed
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, ErrMalformed
	}
	return netip.AddrPortFrom(addr, uint16(n)), nil
}

// version2 is binary. What follows the addresses (TLVs) is skipped.
func version2(data []byte) (int, netip.AddrPort, error) {
	if len(data) < header2 {
		return 0, netip.AddrPort{}, ErrIncomplete
	}
	const version, local, proxy = 0x20, 0, 1
	command := data[len(signature2)]
	if command != version|local && command != version|proxy {
		return 0, netip.AddrPort{}, ErrMalformed
	}
	size := header2 + int(binary.BigEndian.Uint16(data[header2-2:]))
	if len(data) < size {
		return 0, netip.AddrPort{}, ErrIncomplete
	}
	rest := data[header2:size]
	const tcp4, tcp6 = 0x11, 0x21
	var client netip.Addr
	var ports []byte
	switch family := data[len(signature2)+1]; {
	case command == version|local:
		return size, netip.AddrPort{}, nil
	case family == tcp4 && len(rest) >= 12:
		client, ports = netip.AddrFrom4([4]byte(rest[:4])), rest[8:]
	case family == tcp6 && len(rest) >= 36:
		client, ports = netip.AddrFrom16([16]byte(rest[:16])), rest[32:]
	case family == tcp4 || family == tcp6:
		return 0, netip.AddrPort{}, ErrMalformed
	default: // a Unix socket, UDP or unspecified
		return size, netip.AddrPort{}, nil
	}
	return size, unmapped(netip.AddrPortFrom(client, binary.BigEndian.Uint16(ports))), nil
}

// unmapped gives an IPv4 client that came over an IPv6 socket of the load balancer its IPv4 address, which is what lists of networks hold.
func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
