// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// namespace moves the test to a network namespace of its own, with a loopback interface.
func namespace(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test and takes the namespace along
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace: %v", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		t.Fatal(err)
	}
}

// dialled is the destination that the client of c had.
func dialled(t *testing.T, c *net.TCPConn) netip.AddrPort {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var address unix.RawSockaddrInet4
	size := uint32(unsafe.Sizeof(address))
	var errno unix.Errno
	if err := raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_IP, unix.SO_ORIGINAL_DST, uintptr(unsafe.Pointer(&address)), uintptr(unsafe.Pointer(&size)), 0)
	}); err != nil || errno != 0 {
		t.Fatal(err, errno)
	}
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&address.Port))[:])
	return netip.AddrPortFrom(netip.AddrFrom4(address.Addr), port)
}

func TestPortsComeToOne(t *testing.T) {
	namespace(t)
	rule := Rule{Name: "kamaji-test", Address: netip.MustParseAddr("127.0.0.3"), Ports: []Range{{10000, 10247}, {10261, 29999}}, Port: 6443}
	listener, err := net.Listen("tcp4", "127.0.0.3:6443")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	reaches := func(address string, port uint16) bool {
		c, err := net.Dial("tcp4", net.JoinHostPort(address, strconv.Itoa(int(port))))
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		accepted, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = accepted.Close() }()
		if got, want := dialled(t, accepted.(*net.TCPConn)), netip.AddrPortFrom(rule.Address, port); got != want {
			t.Errorf("the destination was %s, it is said to be %s", want, got)
		}
		return true
	}
	if reaches("127.0.0.3", 21034) {
		t.Fatal("port 21034 is open before the redirect")
	}
	redirect, err := Start(rule)
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range []uint16{10000, 10247, 10261, 21034, 29999} {
		if !reaches("127.0.0.3", port) {
			t.Errorf("port %d is not redirected", port)
		}
	}
	for _, port := range []uint16{9999, 10248, 10250, 10260, 30000} {
		if reaches("127.0.0.3", port) {
			t.Errorf("port %d is redirected", port)
		}
	}
	if reaches("127.0.0.4", 21034) {
		t.Error("another address is redirected")
	}
	// The pod that takes over has rules of its own while the old one still runs.
	second := rule
	second.Name = "kamaji-test-2"
	next, err := Start(second)
	if err != nil {
		t.Fatal(err)
	}
	if err := redirect.Close(); err != nil {
		t.Fatal(err)
	}
	if !reaches("127.0.0.3", 21034) {
		t.Error("the redirect of a process that goes on ended with that of another")
	}
	if _, err := Start(second); err == nil {
		t.Error("two redirects have the same name")
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	if reaches("127.0.0.3", 21034) {
		t.Error("the redirect outlives its owner")
	}
}
