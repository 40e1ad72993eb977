// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// eventBatch is how many events one epoll_wait returns at most.
	eventBatch = 256
	// bufferSize is the buffer that a loop reads into: the usual size of a pipe, above which a
	// direction counts as streaming.
	bufferSize = 64 << 10
	// acceptBatch connections are accepted from one listener before others get their turn.
	acceptBatch = 64

	events = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

	// attentive is how long a loop waits for events without telling Go's scheduler, which is cheap but keeps its processor from other
	// goroutines.
	attentive = time.Millisecond
	// acceptPause is how long a listener rests when the process or the system has no descriptor or memory for a connection.
	acceptPause = 100 * time.Millisecond
	// wakeID marks the events of the mailbox. Listeners have smaller ids, connections larger ones.
	wakeID = -1
)

// loop is one goroutine with the connections it owns. Nothing but post is called from outside.
type loop struct {
	relay *Relay
	index int
	epoll int
	wake  int // eventfd
	load  atomic.Int64

	mailMu  sync.Mutex
	mail    []func()
	stopped bool // nothing is posted any more

	now        time.Time
	conns      []*conn // by id
	free       []int32 // unused ids
	generation int32
	timers     timers
	greeters   queue       // wait for their ClientHello
	settlers   queue       // have been relaying for less than settleTime
	ready      []*conn     // used up their budget, have more to do
	listeners  []*Listener // by slot
	slots      []int       // unused ones
	accepting  []*Listener // used up their batch
	paused     []*Listener // rest until resume
	resume     time.Time
	pipes      pipes
	buffer     []byte
	idle       chan<- struct{} // set when somebody waits for the last connection to end
	stopping   bool
}

func newLoop(r *Relay, index int) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating an epoll instance: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("creating an eventfd: %w", err)
	}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: wakeID}); err != nil {
		_ = unix.Close(wake)
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("watching the eventfd: %w", err)
	}
	return &loop{relay: r, index: index, epoll: epoll, wake: wake, now: time.Now(), buffer: make([]byte, bufferSize)}, nil
}

// post has f called on the loop, soon. It returns false after the loop stopped.
func (l *loop) post(f func()) bool {
	l.mailMu.Lock()
	defer l.mailMu.Unlock()
	if l.stopped {
		return false
	}
	l.mail = append(l.mail, f)
	if len(l.mail) == 1 {
		one := [8]byte{1}
		_, _ = unix.Write(l.wake, one[:]) // fails only when the counter is full, that is, when the loop is awake anyway
	}
	return true
}

func (l *loop) run() {
	defer l.relay.running.Done()
	runtime.LockOSThread() // else the scheduler moves it to another thread now and then, and all its memory to another cache
	defer runtime.UnlockOSThread()
	batch := make([]unix.EpollEvent, eventBatch)
	for !l.stopping {
		n := l.wait(batch)
		l.now = time.Now()
		for i := range n {
			l.dispatch(&batch[i])
		}
		l.readMail()
		l.timers.expire(l.now, l.timeout)
		l.greeters.expire(l.now, func(c *conn) { l.end(c, HelloTimeout) })
		l.settlers.expire(l.now, l.settle)
		l.again()
	}
	l.stop()
}

// wait returns the number of events. It waits a moment without telling Go's scheduler first: under load there is always something,
// and blocking the usual way keeps the scheduler's monitor thread busy, which costs more than the work. (Parking in Go's own poller,
// with the epoll instance nested in it, was measured too: twice the processor time per message.)
func (l *loop) wait(batch []unix.EpollEvent) int {
	left := l.left()
	n, err := epollWait(l.epoll, batch, min(left, attentive))
	if n > 0 || err != nil || left <= attentive {
		return n // interrupted, most likely by the scheduler
	}
	// Rounded up, else the last millisecond before a deadline would be spent spinning.
	timeout := -1
	if left < forever {
		timeout = int((left - attentive + time.Millisecond - 1) / time.Millisecond)
	}
	n, err = unix.EpollWait(l.epoll, batch, timeout)
	if err != nil && err != unix.EINTR {
		panic(fmt.Sprintf("epoll_wait: %v", err)) // EBADF, EFAULT or EINVAL: this package is broken
	}
	return max(n, 0)
}

// forever is longer than any wait.
const forever = time.Duration(math.MaxInt64)

// left is the time until something is to be done without an event.
func (l *loop) left() time.Duration {
	if len(l.ready) > 0 || len(l.accepting) > 0 {
		return 0
	}
	next := l.settlers.next(l.greeters.next(l.timers.next(l.resume)))
	if next.IsZero() {
		return forever
	}
	return max(time.Until(next), 0)
}

func (l *loop) dispatch(e *unix.EpollEvent) {
	switch {
	case e.Fd == wakeID:
		var count [8]byte
		_, _ = unix.Read(l.wake, count[:])
	case e.Fd < wakeID:
		if listener := l.listeners[-e.Fd-2]; listener != nil {
			l.accept(listener)
		}
	default:
		id, upstream := e.Fd>>1, e.Fd&1 == 1
		// The id may belong to a newer connection by now; the generation tells.
		if c := l.conns[id]; c != nil && c.generation == e.Pad {
			l.event(c, upstream, e.Events)
		}
	}
}

func (l *loop) readMail() {
	l.mailMu.Lock()
	mail := l.mail
	l.mail = nil
	l.mailMu.Unlock()
	for _, f := range mail {
		f()
	}
}

// again serves those that were interrupted to give others their turn.
func (l *loop) again() {
	if !l.resume.IsZero() && !l.now.Before(l.resume) {
		l.accepting, l.paused, l.resume = append(l.accepting, l.paused...), nil, time.Time{}
	}
	accepting := l.accepting
	l.accepting = nil
	for _, listener := range accepting {
		l.accept(listener)
	}
	ready := l.ready
	l.ready = nil
	for _, c := range ready {
		c.queued = false
		if c.state == relaying {
			l.pump(c)
		}
	}
}

// watch registers s for events, edge-triggered, and for those in more.
func (l *loop) watch(s *side, more uint32) error {
	e := unix.EpollEvent{Events: events | more, Fd: s.event, Pad: s.generation}
	if err := epollControl(l.epoll, unix.EPOLL_CTL_ADD, s.fd, &e); err != nil {
		return fmt.Errorf("watching a socket: %w", err)
	}
	return nil
}

// checkIdle tells who waits for it that no connection is left.
func (l *loop) checkIdle() {
	if l.idle != nil && l.relay.active.Load() == 0 {
		select {
		case l.idle <- struct{}{}:
		default:
		}
	}
}

func (l *loop) stop() {
	l.mailMu.Lock()
	l.stopped = true
	l.mailMu.Unlock()
	l.readMail()
	for _, c := range l.conns {
		if c != nil {
			l.end(c, Shutdown)
		}
	}
	for _, listener := range l.listeners {
		if listener != nil {
			l.removeListener(listener)
		}
	}
	l.pipes.close()
	_ = unix.Close(l.wake)
	_ = unix.Close(l.epoll)
}
