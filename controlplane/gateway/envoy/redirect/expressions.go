// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"encoding/binary"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// bigEndian is the byte order of nftables' numbers, and of those in packets.
var bigEndian = binary.BigEndian

// Offsets and lengths in packets.
const (
	destination4, length4 = 16, 4
	destination6, length6 = 24, 16
	destinationPort       = 2
)

// expressions are those of one rule: the destination is the address, the protocol TCP and the port in a range; then it is replaced.
func (r Rule) expressions(a *netlink.AttributeEncoder, ports Range) {
	offset, length := uint32(destination4), uint32(length4)
	if !r.Address.Is4() {
		offset, length = destination6, length6
	}
	load(a, unix.NFT_PAYLOAD_NETWORK_HEADER, offset, length)
	equal(a, r.Address.AsSlice())
	expression(a, "meta", func(a *netlink.AttributeEncoder) {
		a.Uint32(unix.NFTA_META_KEY, unix.NFT_META_L4PROTO)
		a.Uint32(unix.NFTA_META_DREG, unix.NFT_REG_1)
	})
	equal(a, []byte{unix.IPPROTO_TCP})
	load(a, unix.NFT_PAYLOAD_TRANSPORT_HEADER, destinationPort, 2)
	expression(a, "range", func(a *netlink.AttributeEncoder) {
		a.Uint32(unix.NFTA_RANGE_SREG, unix.NFT_REG_1)
		a.Uint32(unix.NFTA_RANGE_OP, unix.NFT_RANGE_EQ)
		value(a, unix.NFTA_RANGE_FROM_DATA, bigEndian.AppendUint16(nil, ports.First))
		value(a, unix.NFTA_RANGE_TO_DATA, bigEndian.AppendUint16(nil, ports.Last))
	})
	immediate(a, unix.NFT_REG_1, r.Address.AsSlice())
	immediate(a, unix.NFT_REG_2, bigEndian.AppendUint16(nil, r.Port))
	expression(a, "nat", func(a *netlink.AttributeEncoder) {
		a.Uint32(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT)
		a.Uint32(unix.NFTA_NAT_FAMILY, uint32(r.family()))
		a.Uint32(unix.NFTA_NAT_REG_ADDR_MIN, unix.NFT_REG_1)
		a.Uint32(unix.NFTA_NAT_REG_PROTO_MIN, unix.NFT_REG_2)
	})
}

func expression(a *netlink.AttributeEncoder, name string, data func(*netlink.AttributeEncoder)) {
	a.Nested(unix.NFTA_LIST_ELEM, func(a *netlink.AttributeEncoder) error {
		a.String(unix.NFTA_EXPR_NAME, name)
		a.Nested(unix.NFTA_EXPR_DATA, func(a *netlink.AttributeEncoder) error {
			data(a)
			return nil
		})
		return nil
	})
}

// load reads a part of the packet into the first register.
func load(a *netlink.AttributeEncoder, base, offset, length uint32) {
	expression(a, "payload", func(a *netlink.AttributeEncoder) {
		a.Uint32(unix.NFTA_PAYLOAD_DREG, unix.NFT_REG_1)
		a.Uint32(unix.NFTA_PAYLOAD_BASE, base)
		a.Uint32(unix.NFTA_PAYLOAD_OFFSET, offset)
		a.Uint32(unix.NFTA_PAYLOAD_LEN, length)
	})
}

// equal ends the rule unless the first register holds want.
func equal(a *netlink.AttributeEncoder, want []byte) {
	expression(a, "cmp", func(a *netlink.AttributeEncoder) {
		a.Uint32(unix.NFTA_CMP_SREG, unix.NFT_REG_1)
		a.Uint32(unix.NFTA_CMP_OP, unix.NFT_CMP_EQ)
		value(a, unix.NFTA_CMP_DATA, want)
	})
}

func immediate(a *netlink.AttributeEncoder, register uint32, data []byte) {
	expression(a, "immediate", func(a *netlink.AttributeEncoder) {
		a.Uint32(unix.NFTA_IMMEDIATE_DREG, register)
		value(a, unix.NFTA_IMMEDIATE_DATA, data)
	})
}

func value(a *netlink.AttributeEncoder, kind uint16, data []byte) {
	a.Nested(kind, func(a *netlink.AttributeEncoder) error {
		a.Bytes(unix.NFTA_DATA_VALUE, data)
		return nil
	})
}
