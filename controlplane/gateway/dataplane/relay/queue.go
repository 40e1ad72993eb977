// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import "time"

// queue holds connections in the order in which their time comes, which is that in which they are added: all wait equally long. A
// connection is in one queue at most.
type queue struct {
	oldest, newest *conn
	n              int
}

func (q *queue) add(c *conn, deadline time.Time) {
	c.deadline, c.queue, c.older = deadline, q, q.newest
	if q.newest != nil {
		q.newest.newer = c
	} else {
		q.oldest = c
	}
	q.newest = c
	q.n++
}

// leave takes c out of its queue, if it is in one.
func (c *conn) leave() {
	q := c.queue
	if q == nil {
		return
	}
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		q.oldest = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		q.newest = c.older
	}
	q.n--
	c.queue, c.older, c.newer = nil, nil, nil
}

// expire takes out the connections whose time has come and calls f for each.
func (q *queue) expire(now time.Time, f func(*conn)) {
	for c := q.oldest; c != nil && !c.deadline.After(now); c = q.oldest {
		c.leave()
		f(c)
	}
}

// next is the earlier of t and the time of the oldest connection; the zero time is none.
func (q *queue) next(t time.Time) time.Time {
	if q.oldest != nil && (t.IsZero() || q.oldest.deadline.Before(t)) {
		return q.oldest.deadline
	}
	return t
}
