// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// backlog is the accept queue of a listener; the kernel caps it at net.core.somaxconn.
	backlog = 4096

	// A dead peer of an idle connection is found after keepIdle + keepProbes*keepInterval seconds, and
	// userTimeout milliseconds bounds unacknowledged data by the same time.
	keepIdle     = 60
	keepInterval = 20
	keepProbes   = 3
	userTimeout  = 1000 * (keepIdle + keepProbes*keepInterval)
)

// socketOption is one setsockopt call with an integer value.
type socketOption struct{ level, name, value int }

// noDelay is for every relayed socket, lastingOptions are for those that stay open. Accepted sockets inherit both from their
// listener; upstream ones get the latter when they have been open for settleTime, because most that close do it before.
var noDelay = socketOption{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}

// delayAck has the last packet of the handshake wait for the ClientHello, which follows at once, and go with it.
var delayAck = socketOption{unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0}

var lastingOptions = []socketOption{
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepIdle},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepInterval},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepProbes},
	{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout},
}

// newSocket opens a non-blocking TCP socket. It is plain TCP: net.Listen would make a multipath TCP
// socket, which costs memory here and gives nothing.
func newSocket(addr netip.Addr, options ...socketOption) (int, error) {
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("opening a socket: %w", err)
	}
	for _, o := range options {
		if err := setOption(fd, o); err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("setting socket option %d/%d: %w", o.level, o.name, err)
		}
	}
	return fd, nil
}

// listen binds exactly addr. IP_FREEBIND lets a gateway start before its shared address was moved to
// this host, SO_REUSEPORT lets a new process take over while the old one drains. With TCP_DEFER_ACCEPT the kernel keeps a connection
// for up to patience until its first bytes are there.
func listen(addr netip.AddrPort, patience time.Duration) (int, error) {
	options := []socketOption{{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}, {unix.SOL_SOCKET, unix.SO_REUSEPORT, 1}}
	if addr.Addr().Is6() {
		options = append(options, socketOption{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1}, socketOption{unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1})
	} else {
		options = append(options, socketOption{unix.IPPROTO_IP, unix.IP_FREEBIND, 1})
	}
	if seconds := int(patience / time.Second); seconds > 0 {
		options = append(options, socketOption{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, seconds})
	}
	fd, err := newSocket(addr.Addr(), append(append(options, noDelay), lastingOptions...)...)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, sockaddr(addr)); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("binding: %w", err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("listening: %w", err)
	}
	return fd, nil
}

// connect begins to connect to addr; the socket turns writable when that is decided.
func connect(addr netip.AddrPort) (int, error) {
	fd, err := newSocket(addr.Addr(), noDelay, delayAck)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, sockaddr(addr)); err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connecting: %w", err)
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
