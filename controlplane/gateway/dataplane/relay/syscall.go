// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"encoding/binary"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls here cannot block, since all sockets are non-blocking, so they go around Go's scheduler: otherwise its monitor
// thread would take the processor away during the longer ones, and waking both up again costs more than the call.

func read(fd int32, p []byte) (int, error) {
	return result(unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))))
}

// write returns how much of data the socket took; that it takes nothing now is no error.
func write(fd int32, data []byte) (int, error) {
	for {
		n, err := result(unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data))))
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		default:
			return 0, err
		}
	}
}

// splice moves up to n bytes between a socket and a pipe.
func splice(from, to int32, n int) (int, error) {
	return result(unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK))
}

func closeFile(fd int32) {
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

func shutdownWrite(fd int32) {
	_, _, _ = unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
}

func accept(fd int) (int, netip.AddrPort, error) {
	var a rawAddr
	size := uint32(len(a))
	n, err := result(unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&size)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0))
	return n, a.addrPort(), err
}

// localAddr is the address of a socket on this host; invalid when there is none.
func localAddr(fd int32) netip.AddrPort {
	var a rawAddr
	size := uint32(len(a))
	if _, err := result(unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&size)))); err != nil {
		return netip.AddrPort{}
	}
	return a.addrPort()
}

func setOption(fd int, o socketOption) error {
	value := int32(o.value)
	_, err := result(unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(o.level), uintptr(o.name), uintptr(unsafe.Pointer(&value)), 4, 0))
	return err
}

func epollControl(epoll, operation int, fd int32, e *unix.EpollEvent) error {
	_, err := result(unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), uintptr(operation), uintptr(fd), uintptr(unsafe.Pointer(e)), 0, 0))
	return err
}

// epollWait waits for at most a few milliseconds.
func epollWait(epoll int, batch []unix.EpollEvent, timeout time.Duration) (int, error) {
	return result(unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(batch))), uintptr(len(batch)),
		uintptr(timeout.Milliseconds()), 0, 0))
}

func result(r, _ uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// rawAddr is a socket address as the kernel writes it (sockaddr_in or sockaddr_in6): family, port, and from the fifth or ninth byte
// on the address.
type rawAddr [unix.SizeofSockaddrInet6]byte

func (a *rawAddr) addrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16(a[2:])
	switch binary.NativeEndian.Uint16(a[:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:8])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(a[8:24])), port)
	}
	return netip.AddrPort{}
}
