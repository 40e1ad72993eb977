// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Listener is one address on which connections come in.
type Listener struct {
	// Addr is the address it is bound to.
	Addr netip.AddrPort
	// Tag is what the owner wants to find again in Incoming.
	Tag any

	loop *loop
	fd   int
	slot int
}

// Listen binds addr, which may be of another host, and accepts connections until Unlisten or Drain.
func (r *Relay) Listen(addr netip.AddrPort, tag any) (*Listener, error) {
	fd, err := listen(addr)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	// With port 0 the kernel chose one.
	l := &Listener{Addr: localAddr(fd), Tag: tag, fd: fd, loop: r.loops[int(r.next.Add(1))%len(r.loops)]}
	r.mu.Lock()
	defer r.mu.Unlock()
	err = errClosed
	if !r.closed {
		added := make(chan error, 1)
		if l.loop.post(func() { added <- l.loop.addListener(l) }) {
			err = <-added
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	r.listeners[l] = struct{}{}
	return l, nil
}

var errClosed = errors.New("the relay is shut down")

// Unlisten closes l. Connections that came in through it stay.
func (r *Relay) Unlisten(l *Listener) {
	r.mu.Lock()
	_, known := r.listeners[l]
	delete(r.listeners, l)
	r.mu.Unlock()
	if known {
		l.loop.post(func() { l.loop.removeListener(l) })
	}
}

func (l *loop) addListener(n *Listener) error {
	if last := len(l.slots) - 1; last >= 0 {
		n.slot, l.slots = l.slots[last], l.slots[:last]
	} else {
		n.slot = len(l.listeners)
		l.listeners = append(l.listeners, nil)
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(-n.slot - 2)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, n.fd, &e); err != nil {
		l.slots = append(l.slots, n.slot)
		return fmt.Errorf("watching the socket: %w", err)
	}
	l.listeners[n.slot] = n
	l.relay.sockets.Add(1)
	return nil
}

func (l *loop) removeListener(n *Listener) {
	if n.fd < 0 {
		return
	}
	_ = unix.Close(n.fd)
	n.fd = -1
	l.relay.sockets.Add(-1)
	l.listeners[n.slot] = nil
	l.slots = append(l.slots, n.slot)
}

// accept takes what waits on n. Being edge-triggered it ends at EAGAIN, or comes back through again.
func (l *loop) accept(n *Listener) {
	for range acceptBatch {
		if n.fd < 0 {
			return
		}
		fd, sa, err := unix.Accept4(n.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			l.admit(n, fd, addrPort(sa))
		case unix.EINTR, unix.ECONNABORTED:
		case unix.EAGAIN:
			return
		default:
			return // out of descriptors or memory: the next connection to come tries again
		}
	}
	l.accepting = append(l.accepting, n)
}

// admit gives an accepted socket to the loop with the fewest connections. Small differences are left,
// because changing the loop costs a wake-up.
func (l *loop) admit(n *Listener, fd int, client netip.AddrPort) {
	r := l.relay
	if r.active.Add(1) > r.capacity() {
		r.active.Add(-1)
		_ = unix.Close(fd)
		r.policy.Rejected(Incoming{Listener: n, Client: client}, Overload)
		return
	}
	best, load := l, l.load.Load()-balanceSlack
	for _, other := range r.loops {
		if n := other.load.Load(); n < load {
			best, load = other, n
		}
	}
	best.load.Add(1)
	if best == l {
		l.open(n, fd, client)
		return
	}
	if !best.post(func() { best.open(n, fd, client) }) {
		best.load.Add(-1)
		r.active.Add(-1)
		_ = unix.Close(fd)
	}
}

// balanceSlack is by how many connections a loop must have fewer to be given one.
const balanceSlack = 8
