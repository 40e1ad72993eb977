// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/hello"
)

// state is how far a connection got.
type state uint8

const (
	greeting   state = iota // waits for the rest of the ClientHello
	connecting              // waits for the upstream
	relaying
	lingering // refused; waits for the client to read why
)

const (
	// lingerTimeout is how long a refused client may take to read the answer.
	lingerTimeout = 2 * time.Second
	// settleTime is how long a connection lasts before it is prepared to last.
	settleTime = 15 * time.Second
)

// ErrConnectTimeout is what Flow.Next is told of an upstream that did not answer in time.
var ErrConnectTimeout = errors.New("connecting: no answer in time")

// conn is a client connection and its upstream. An idle one has no buffer, no pipe and no timer, and
// there may be a million: mind the size.
type conn struct {
	id         int32 // index in loop.conns
	generation int32 // unique for the id, for a long time
	timer      int32 // index in loop.timers, -1 without
	state      state
	queued     bool // in loop.ready
	proxied    bool // a PROXY protocol header comes first

	client, upstream side

	listener   *Listener
	hello      *hello.Buffer // only while greeting and connecting
	flow       Flow          // nil while greeting
	meter      *Meter
	group      *Group
	next, prev *conn // in the group

	queue        *queue // it waits in
	older, newer *conn  // there

	remote   netip.AddrPort
	via      netip.Addr // the load balancer in front, if one said whose connection it is
	local    netip.AddrPort
	accepted time.Time
	deadline time.Time
}

func (c *conn) incoming() Incoming {
	in := Incoming{Listener: c.listener, Client: c.remote, Via: c.via, Dialled: c.listener.Addr, Hello: c.hello}
	if c.listener.options.Anywhere {
		in.Dialled = localAddr(c.client.fd)
	}
	return in
}

// open takes over an accepted socket.
func (l *loop) open(n *Listener, fd int, client netip.AddrPort) {
	c := &conn{timer: -1, listener: n, remote: client, accepted: l.now}
	c.upstream.fd = -1
	if last := len(l.free) - 1; last >= 0 {
		c.id, l.free = l.free[last], l.free[:last]
	} else {
		c.id = int32(len(l.conns))
		l.conns = append(l.conns, nil)
	}
	l.generation++
	c.generation = l.generation
	l.conns[c.id] = c
	c.proxied = n.options.Door.proxied(client.Addr())
	c.client = side{fd: int32(fd), event: c.id << 1, generation: c.generation, readable: true, writable: true}
	l.greeters.add(c, l.now.Add(l.relay.options.HelloTimeout))
	l.greet(c) // most have sent their ClientHello when they are accepted
	if l.conns[c.id] != c {
		return // and some have left
	}
	if err := l.watch(&c.client, 0); err != nil {
		l.end(c, Overload) // fs.epoll.max_user_watches, or memory
		return
	}
	if l.greeters.n > l.relay.pendingPerLoop() {
		l.end(l.greeters.oldest, HelloCrowded)
	}
}

// event notes what epoll says about one of the sockets and goes on from there.
func (l *loop) event(c *conn, upstream bool, mask uint32) {
	s := &c.client
	if upstream {
		s = &c.upstream
	}
	const ending = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	s.readable = s.readable || mask&(unix.EPOLLIN|ending) != 0
	s.writable = s.writable || mask&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0
	s.ending = s.ending || mask&ending != 0
	s.failed = s.failed || mask&unix.EPOLLERR != 0
	switch c.state {
	case greeting:
		l.greet(c)
	case connecting:
		switch {
		case upstream:
			l.finishConnect(c)
		case s.failed:
			l.end(c, ClientReset)
		}
	case relaying:
		l.pump(c)
	case lingering:
		l.linger(c)
	}
}

// greet reads the ClientHello. The buffer is taken when the first bytes are there: a client that
// connects and stays silent costs none.
func (l *loop) greet(c *conn) {
	for c.client.readable {
		if c.hello == nil {
			c.hello = hello.New()
		}
		free := c.hello.Free()
		n, err := read(c.client.fd, free)
		switch {
		case err == unix.EAGAIN:
			c.client.readable = false
			return
		case err == unix.EINTR:
			continue
		case err != nil:
			l.end(c, ClientReset)
			return
		case n == 0:
			l.end(c, ClientGone)
			return
		}
		c.client.readable = n == len(free) || c.client.ending // as in copy
		if c.proxied {
			var ok bool
			if ok, n = l.unwrap(c, n); !ok {
				continue
			}
			if c.state != greeting {
				return
			}
		}
		complete, err := c.hello.Filled(n)
		if err != nil {
			l.refuse(c, refusalOf(err))
			return
		}
		if complete {
			l.route(c)
			return
		}
	}
}

// refusalOf translates what is wrong with a ClientHello.
func refusalOf(err error) *Refusal {
	const decodeError = 50 // TLS alert
	if errors.Is(err, hello.ErrNotTLS) || errors.Is(err, hello.ErrHTTP) {
		return &Refusal{Reason: NotTLS}
	}
	return &Refusal{Reason: HelloMalformed, Alert: decodeError}
}

// route asks the policy and begins to connect.
func (l *loop) route(c *conn) {
	flow, refusal := l.relay.policy.Route(c.incoming())
	if refusal != nil {
		l.refuse(c, refusal)
		return
	}
	c.leave()
	c.flow, c.state = flow, connecting
	c.meter = flow.Meter()
	c.client.meter = &c.meter.Sent
	if c.group = flow.Group(); c.group != nil {
		list := c.group.list(len(l.relay.loops))
		if c.next = list[l.index]; c.next != nil {
			c.next.prev = c
		}
		list[l.index] = c
	}
	l.dial(c, nil)
}

// dial tries addresses until one connection is under way.
func (l *loop) dial(c *conn, failed error) {
	for {
		addr, timeout, ok := c.flow.Next(failed)
		if !ok {
			_, _ = write(c.client.fd, alert(internalError))
			l.end(c, ConnectFailed)
			return
		}
		var fd int
		if fd, failed = connect(addr); failed != nil {
			continue
		}
		c.upstream = side{fd: int32(fd), event: c.id<<1 | 1, generation: c.generation, watched: true, meter: &c.meter.Received}
		if failed = l.watch(&c.upstream, unix.EPOLLOUT); failed == nil {
			l.timers.set(c, l.now.Add(timeout))
			return
		}
		l.hangUp(c)
	}
}

// hangUp gives an unused upstream socket back.
func (l *loop) hangUp(c *conn) {
	closeFile(c.upstream.fd)
	c.upstream = side{fd: -1}
}

// finishConnect sends the ClientHello to a fresh upstream connection. Until that worked nothing is
// lost, and another address can be tried.
func (l *loop) finishConnect(c *conn) {
	if !c.upstream.writable {
		return
	}
	// On a socket that is not connected this fails with what is wrong; a socket that turned writable is decided.
	n, err := write(c.upstream.fd, c.hello.Bytes())
	if err != nil {
		err = fmt.Errorf("connecting: %w", err)
		l.hangUp(c)
		l.dial(c, err)
		return
	}
	if rest := c.hello.Bytes()[n:]; len(rest) > 0 {
		c.client.keep(rest)
		c.upstream.writable = false
	}
	c.client.moved += uint64(len(c.hello.Bytes()))
	c.meter.Sent.Add(uint64(len(c.hello.Bytes())))
	c.hello.Release()
	c.hello = nil
	c.local = localAddr(c.upstream.fd)
	l.timers.clear(c)
	c.state = relaying
	l.settlers.add(c, l.now.Add(settleTime))
	if age := l.relay.limits.Load().age(); age > 0 {
		l.timers.set(c, c.accepted.Add(age))
	}
	l.pump(c)
}

// timeout is called when the deadline of c passed.
func (l *loop) timeout(c *conn) {
	switch c.state {
	case connecting:
		l.hangUp(c)
		l.dial(c, ErrConnectTimeout)
	case relaying:
		l.end(c, TooOld)
	default:
		l.end(c, Finished)
	}
}

// settle prepares a connection that has been open for a while to stay: a dead peer is to be found.
func (l *loop) settle(c *conn) {
	for _, o := range lastingOptions {
		_ = setOption(int(c.upstream.fd), o) // as it could be set for every listener
	}
}

// refuse reports a connection that gets no flow, and tells the client why as far as it can understand.
func (l *loop) refuse(c *conn, why *Refusal) {
	l.relay.policy.Rejected(c.incoming(), why.Reason)
	c.leave()
	c.state = lingering
	answer := []byte(nil)
	switch _, err := c.hello.Filled(0); {
	case why.Alert != 0:
		answer = alert(why.Alert)
	case errors.Is(err, hello.ErrHTTP):
		answer = []byte("HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
	}
	c.hello.Release()
	c.hello = nil
	if answer != nil {
		_, _ = write(c.client.fd, answer)
	}
	shutdownWrite(c.client.fd)
	l.timers.set(c, l.now.Add(lingerTimeout))
	c.client.readable = true
	l.linger(c)
}

// internalError is the TLS alert for what is not the client's fault.
const internalError = 80

// alert is a fatal TLS alert: a record of type alert, TLS 1.2, 2 bytes.
func alert(what byte) []byte { return []byte{21, 3, 3, 0, 2, 2, what} }

// linger reads and forgets until the client closes: closing a socket with unread data resets the
// connection, and the answer might never be read.
func (l *loop) linger(c *conn) {
	for c.client.readable {
		n, err := read(c.client.fd, l.buffer)
		switch {
		case err == unix.EAGAIN:
			c.client.readable = false
		case err == unix.EINTR:
		case err != nil, n == 0:
			l.end(c, Finished)
			return
		}
	}
}

// end closes both sockets, forgets c and reports.
func (l *loop) end(c *conn, why Reason) {
	if c.group != nil {
		if c.prev != nil {
			c.prev.next = c.next
		} else {
			c.group.list(len(l.relay.loops))[l.index] = c.next
		}
		if c.next != nil {
			c.next.prev = c.prev
		}
	}
	for _, s := range []*side{&c.client, &c.upstream} {
		l.release(s)
		if s.fd >= 0 {
			closeFile(s.fd)
		}
	}
	l.timers.clear(c)
	c.leave()
	l.conns[c.id] = nil
	l.free = append(l.free, c.id)
	l.load.Add(-1)
	l.relay.leave(c.listener)
	switch {
	case c.flow != nil:
		c.flow.Done(Summary{
			Reason: why, Local: c.local, Sent: c.client.moved, Received: c.upstream.moved, Duration: l.now.Sub(c.accepted),
		})
	case c.state == greeting:
		l.relay.policy.Rejected(c.incoming(), why)
	}
	if c.hello != nil {
		c.hello.Release()
	}
	c.state = lingering // no turn of the loop touches it again
	l.checkIdle()
}
