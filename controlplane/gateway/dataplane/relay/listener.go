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

	options ListenOptions
	loop    *loop
	fd      int
	slot    int
}

// ListenOptions are what listeners differ in.
type ListenOptions struct {
	// Door bounds the connections, together with other listeners that have the same one. May be nil.
	Door *Door
	// Anywhere is for a socket that gets connections to other addresses than its own: Incoming.Dialled is looked up for each.
	Anywhere bool
	// Socket is a listening socket to use, of which the relay becomes the owner, instead of one that it opens itself; 0: none.
	Socket int
}

// Listen binds addr, which may be of another host, and accepts connections until Unlisten or Drain.
func (r *Relay) Listen(addr netip.AddrPort, tag any, options ListenOptions) (*Listener, error) {
	fd, err := options.Socket, error(nil)
	if fd == 0 {
		fd, err = listen(addr, r.options.HelloTimeout)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	// With port 0 the kernel chose one.
	l := &Listener{Addr: localAddr(int32(fd)), Tag: tag, options: options, fd: fd, loop: r.loops[int(r.next.Add(1))%len(r.loops)]}
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
		closeFile(int32(fd))
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	r.listeners[l] = struct{}{}
	return l, nil
}

// Duplicate returns the socket of an open listener as another descriptor.
func (r *Relay) Duplicate(l *Listener) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.listeners[l]; !known {
		return -1, errClosed
	}
	type answer struct {
		fd  int
		err error
	}
	answers := make(chan answer, 1) // the loop owns the descriptor
	if !l.loop.post(func() {
		if l.fd < 0 {
			answers <- answer{-1, errClosed}
			return
		}
		fd, err := unix.FcntlInt(uintptr(l.fd), unix.F_DUPFD_CLOEXEC, 0)
		answers <- answer{fd, err}
	}) {
		return -1, errClosed
	}
	a := <-answers
	if a.err != nil {
		return -1, fmt.Errorf("duplicating the socket of %s: %w", l.Addr, a.err)
	}
	return a.fd, nil
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
	if err := epollControl(l.epoll, unix.EPOLL_CTL_ADD, int32(n.fd), &e); err != nil {
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
	// Explicitly, because another process may have the socket, too, and then closing it here does not take it out.
	_ = epollControl(l.epoll, unix.EPOLL_CTL_DEL, int32(n.fd), nil)
	closeFile(int32(n.fd))
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
		fd, client, err := accept(n.fd)
		switch err {
		case nil:
			l.admit(n, fd, client)
		case unix.EINTR, unix.ECONNABORTED:
		case unix.EAGAIN:
			return
		default: // out of descriptors or memory
			l.relay.pauses.Add(1)
			l.paused = append(l.paused, n)
			if l.resume.IsZero() {
				l.resume = l.now.Add(acceptPause)
			}
			return
		}
	}
	l.accepting = append(l.accepting, n)
}

// admit gives an accepted socket to the loop with the fewest connections. Small differences are left,
// because changing the loop costs a wake-up.
func (l *loop) admit(n *Listener, fd int, client netip.AddrPort) {
	r := l.relay
	if !r.enter(n) {
		l.shed(fd)
		r.policy.Rejected(Incoming{Listener: n, Client: client, Dialled: n.Addr}, Overload)
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
		r.leave(n)
		closeFile(int32(fd))
	}
}

// shed turns a connection away at once. What it sent is read, because closing a socket with unread data resets the connection, and
// the client would not see why.
func (l *loop) shed(fd int) {
	if n, err := read(int32(fd), l.buffer); n > 0 && err == nil {
		_, _ = write(int32(fd), alert(internalError))
	}
	closeFile(int32(fd))
}

// balanceSlack is by how many connections a loop must have fewer to be given one.
const balanceSlack = 8
