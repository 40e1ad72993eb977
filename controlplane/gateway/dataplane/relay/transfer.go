// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// turn is how many bytes one direction may move before other connections get theirs.
	turn = 1 << 20
	// streakLength full buffers in a row make a direction streaming: from there on splice, which does
	// not copy, is cheaper than read and write.
	streakLength = 2
	// trickle bytes or less from one splice end the streaming.
	trickle = 16 << 10
)

// side is one socket, and the direction that leads away from it.
type side struct {
	fd         int32
	event      int32 // what its events carry, with the generation
	generation int32
	readable   bool // a read may give something
	writable   bool // a write may take something
	ending     bool // the peer will send no more than what is there: read to the end
	failed     bool // the connection is broken; what was received before may still be read
	done       bool // the direction is over
	watched    bool // for becoming writable, too
	streak     uint8
	piped      int            // bytes in pipe
	moved      uint64         // bytes read from fd
	meter      *atomic.Uint64 // counts them, too
	pipe       *pipe          // borrowed while streaming
	rest       *chunk         // read but not yet written
}

// chunk holds bytes for a peer that does not take them yet.
type chunk struct {
	data     [bufferSize]byte
	from, to int
}

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// keep stores a copy of data, at most bufferSize bytes, to be written first.
func (s *side) keep(data []byte) {
	s.rest = chunks.Get().(*chunk)
	s.rest.from, s.rest.to = 0, copy(s.rest.data[:], data)
}

// pump moves what can be moved, both ways, and ends c when that was all.
func (l *loop) pump(c *conn) {
	more := l.move(&c.client, &c.upstream)
	more = l.move(&c.upstream, &c.client) || more
	// The second move may have found out that the client is gone; then what it sent last is to be read.
	more = more || c.client.failed && !c.client.done && c.client.readable && c.upstream.writable
	switch {
	case c.client.failed && c.client.done:
		l.end(c, ClientReset)
	case c.upstream.failed && c.upstream.done:
		l.end(c, UpstreamReset)
	case c.client.done && c.upstream.done:
		l.end(c, Finished)
	case more && !c.queued:
		c.queued = true
		l.ready = append(l.ready, c)
	}
}

// move serves one direction until it has to wait for a socket. True when its turn ended before.
func (l *loop) move(from, to *side) bool {
	for budget := turn; budget > 0; {
		switch pending := from.rest != nil || from.piped > 0; {
		case from.done:
			l.release(from)
			return false
		case pending && to.writable:
			l.flush(from, to)
		case pending:
			return false
		case !from.readable || !to.writable:
			l.release(from) // what waits, waits without a pipe
			return false
		case from.pipe != nil:
			budget -= l.splice(from, to)
		default:
			budget -= l.copy(from, to)
		}
	}
	return true
}

// copy moves a buffer full.
func (l *loop) copy(from, to *side) int {
	n, err := read(from.fd, l.buffer)
	if !from.received(to, n, err) {
		return 0
	}
	if n < len(l.buffer) {
		from.streak = 0
		// A short read emptied the socket; the next byte makes an event. The end of the stream may
		// have made its event already.
		from.readable = from.ending
	} else if from.streak++; from.streak >= streakLength {
		from.pipe = l.pipes.get()
	}
	m, err := write(to.fd, l.buffer[:n])
	if err != nil {
		from.lost(to)
		return n
	}
	if m < n {
		from.keep(l.buffer[m:n])
		l.blocked(to)
	}
	return n
}

// splice moves as much as the pipe takes, without copying.
func (l *loop) splice(from, to *side) int {
	n, err := splice(from.fd, from.pipe.write, pipeSize)
	if !from.received(to, n, err) {
		return 0
	}
	from.piped = n
	l.flush(from, to)
	if n <= trickle && from.piped == 0 {
		l.release(from)
		from.streak = 0
	}
	return n
}

// received takes note of a read of n bytes, and says whether there are any.
func (s *side) received(to *side, n int, err error) bool {
	switch {
	case err == unix.EAGAIN:
		s.readable = false
		return false
	case err == unix.EINTR:
		return false
	case err != nil:
		s.failed, s.done = true, true
		return false
	case n == 0:
		// Everything before was written, so this is the moment to pass on the end of the stream. When
		// it was the second one, closing does that.
		s.done = true
		if !to.done {
			shutdownWrite(to.fd)
		}
		return false
	}
	s.moved += uint64(n)
	s.meter.Add(uint64(n))
	return true
}

// lost ends the direction because to takes nothing any more. What to sent before is still to be read.
func (s *side) lost(to *side) {
	s.done = true
	to.failed, to.readable, to.ending = true, true, true
}

// flush writes what was read before.
func (l *loop) flush(from, to *side) {
	if r := from.rest; r != nil {
		n, err := write(to.fd, r.data[r.from:r.to])
		if err != nil {
			from.lost(to)
			return
		}
		if r.from += n; r.from < r.to {
			l.blocked(to)
			return
		}
		chunks.Put(r)
		from.rest = nil
	}
	for from.piped > 0 {
		n, err := splice(from.pipe.read, to.fd, from.piped)
		switch {
		case err == unix.EAGAIN:
			l.blocked(to)
			return
		case err == unix.EINTR:
		case err != nil:
			from.lost(to)
			return
		default:
			from.piped -= n
		}
	}
}

// release gives back what s borrowed. A pipe with bytes in it, of a broken connection, is thrown away.
func (l *loop) release(s *side) {
	if s.pipe != nil {
		l.pipes.put(s.pipe, s.piped == 0)
		s.pipe, s.piped = nil, 0
	}
	if s.rest != nil {
		chunks.Put(s.rest)
		s.rest = nil
	}
}

// blocked notes that s takes nothing now. Most sockets never come to that, so they are watched for it from the first time on.
func (l *loop) blocked(s *side) {
	s.writable = false
	if !s.watched {
		s.watched = true
		e := unix.EpollEvent{Events: events | unix.EPOLLOUT, Fd: s.event, Pad: s.generation}
		_ = epollControl(l.epoll, unix.EPOLL_CTL_MOD, s.fd, &e) // fails for no socket that is watched already
	}
}
