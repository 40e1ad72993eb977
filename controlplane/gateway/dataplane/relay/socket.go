// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"fmt"
	"net/netip"

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

// streamOptions are those of every relayed socket. Accepted sockets inherit them from their listener.
var streamOptions = []socketOption{
	{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepIdle},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepInterval},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepProbes},
	{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout},
}

// newSocket opens a non-blocking TCP socket. It is plain TCP: net.Listen would make a multipath TCP
// socket, which costs memory here and gives nothing.
func newSocket(addr netip.Addr, options []socketOption) (int, error) {
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("opening a socket: %w", err)
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("setting socket option %d/%d: %w", o.level, o.name, err)
		}
	}
	return fd, nil
}

// listen binds exactly addr. IP_FREEBIND lets a gateway start before its shared address was moved to
// this host, SO_REUSEPORT lets a new process take over while the old one drains.
func listen(addr netip.AddrPort) (int, error) {
	options := []socketOption{{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}, {unix.SOL_SOCKET, unix.SO_REUSEPORT, 1}}
	if addr.Addr().Is6() {
		options = append(options, socketOption{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1}, socketOption{unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1})
	} else {
		options = append(options, socketOption{unix.IPPROTO_IP, unix.IP_FREEBIND, 1})
	}
	fd, err := newSocket(addr.Addr(), append(options, streamOptions...))
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
	fd, err := newSocket(addr.Addr(), streamOptions)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, sockaddr(addr)); err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connecting: %w", err)
	}
	return fd, nil
}

// connected is the outcome of connect on a socket that turned writable.
func connected(fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return fmt.Errorf("reading the outcome of connect: %w", err)
	}
	if code != 0 {
		return fmt.Errorf("connecting: %w", unix.Errno(code))
	}
	return nil
}

func localAddr(fd int) netip.AddrPort {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPort(sa)
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
