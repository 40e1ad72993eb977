// SPDX-License-Identifier: Apache-2.0

// Package redirect brings connections to a range of ports to one port of the same address, with nftables. A listener there learns the
// port that was dialled from the socket option SO_ORIGINAL_DST. The rules belong to the open socket (kernel 5.12 or newer): they are
// gone when Redirect is closed or its process ends, however that happens.
package redirect

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Range is an inclusive range of ports.
type Range struct{ First, Last uint16 }

// Rule is what to redirect.
type Rule struct {
	// Name is of the table, and must be unlike that of any other in the network namespace.
	Name string
	// Address is where connections come, and stays their destination.
	Address netip.Addr
	// Ports come to Port.
	Ports []Range
	Port  uint16
}

// Redirect is a rule in force.
type Redirect struct{ conn *netlink.Conn }

// hooks are where destinations are translated: of what comes in and of what this host sends itself.
var hooks = map[string]uint32{"prerouting": unix.NF_INET_PRE_ROUTING, "output": unix.NF_INET_LOCAL_OUT}

// beforeRouting is the priority of destination NAT, as nft calls it "dstnat".
const beforeRouting = -100

// tableOwner (NFT_TABLE_F_OWNER) ties a table to the socket that made it.
const tableOwner = 0x2

// Start puts r into force in the network namespace of the calling thread. It needs CAP_NET_ADMIN there.
func Start(r Rule) (*Redirect, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	messages, err := r.messages()
	if err == nil {
		err = transact(conn, messages)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("redirecting ports of %s to %d: %w", r.Address, r.Port, err), conn.Close())
	}
	return &Redirect{conn}, nil
}

// Close takes the rules away. Connections that were redirected go on.
func (r *Redirect) Close() error { return r.conn.Close() }

// transact sends messages as one transaction and reads the answer to each.
func transact(conn *netlink.Conn, messages []netlink.Message) error {
	mark := func(kind uint16) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request},
			Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES},
		}
	}
	batch := append([]netlink.Message{mark(unix.NFNL_MSG_BATCH_BEGIN)}, messages...)
	if _, err := conn.SendMessages(append(batch, mark(unix.NFNL_MSG_BATCH_END))); err != nil {
		return err
	}
	for range messages {
		// Refusals are errors here; the first one is the answer to all.
		if _, err := conn.Receive(); err != nil {
			return err
		}
	}
	return nil
}

func (r Rule) family() byte {
	if r.Address.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func (r Rule) messages() ([]netlink.Message, error) {
	table, err := r.message(unix.NFT_MSG_NEWTABLE, 0, func(a *netlink.AttributeEncoder) {
		a.String(unix.NFTA_TABLE_NAME, r.Name)
		a.Uint32(unix.NFTA_TABLE_FLAGS, tableOwner)
	})
	if err != nil {
		return nil, err
	}
	out := []netlink.Message{table}
	for chain, hook := range hooks {
		m, err := r.message(unix.NFT_MSG_NEWCHAIN, 0, func(a *netlink.AttributeEncoder) {
			a.String(unix.NFTA_CHAIN_TABLE, r.Name)
			a.String(unix.NFTA_CHAIN_NAME, chain)
			a.String(unix.NFTA_CHAIN_TYPE, "nat")
			a.Nested(unix.NFTA_CHAIN_HOOK, func(a *netlink.AttributeEncoder) error {
				a.Uint32(unix.NFTA_HOOK_HOOKNUM, hook)
				a.Int32(unix.NFTA_HOOK_PRIORITY, beforeRouting)
				return nil
			})
		})
		if err != nil {
			return nil, err
		}
		out = append(out, m)
		for _, ports := range r.Ports {
			m, err := r.message(unix.NFT_MSG_NEWRULE, netlink.Append, func(a *netlink.AttributeEncoder) {
				a.String(unix.NFTA_RULE_TABLE, r.Name)
				a.String(unix.NFTA_RULE_CHAIN, chain)
				a.Nested(unix.NFTA_RULE_EXPRESSIONS, func(a *netlink.AttributeEncoder) error {
					r.expressions(a, ports)
					return nil
				})
			})
			if err != nil {
				return nil, err
			}
			out = append(out, m)
		}
	}
	return out, nil
}

func (r Rule) message(kind int, flags netlink.HeaderFlags, attributes func(*netlink.AttributeEncoder)) (netlink.Message, error) {
	a := netlink.NewAttributeEncoder()
	a.ByteOrder = bigEndian
	attributes(a)
	data, err := a.Encode()
	if err != nil {
		return netlink.Message{}, fmt.Errorf("encoding: %w", err)
	}
	return netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind),
			Flags: netlink.Request | netlink.Acknowledge | netlink.Create | flags,
		},
		Data: append([]byte{r.family(), unix.NFNETLINK_V0, 0, 0}, data...),
	}, nil
}
