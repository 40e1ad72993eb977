// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"container/heap"
	"time"
)

// timers holds the deadlines that come in any order: of connections that wait for an upstream or linger, and of all when their age
// is bounded.
type timers []*conn

// next is the earlier of t and the first deadline; the zero time is none.
func (t timers) next(other time.Time) time.Time {
	if len(t) > 0 && (other.IsZero() || t[0].deadline.Before(other)) {
		return t[0].deadline
	}
	return other
}

// set replaces the deadline of c.
func (t *timers) set(c *conn, deadline time.Time) {
	c.deadline = deadline
	if c.timer < 0 {
		heap.Push(t, c)
	} else {
		heap.Fix(t, int(c.timer))
	}
}

// clear removes the deadline of c, if it has one.
func (t *timers) clear(c *conn) {
	if c.timer >= 0 {
		heap.Remove(t, int(c.timer))
	}
}

// expire calls f for every connection whose deadline is not after now, and removes the deadline.
func (t *timers) expire(now time.Time, f func(*conn)) {
	for len(*t) > 0 && !(*t)[0].deadline.After(now) {
		c := (*t)[0]
		heap.Pop(t)
		f(c)
	}
}

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].deadline.Before(t[j].deadline) }

func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].timer, t[j].timer = int32(i), int32(j)
}

func (t *timers) Push(x any) {
	c := x.(*conn)
	c.timer = int32(len(*t))
	*t = append(*t, c)
}

func (t *timers) Pop() any {
	last := len(*t) - 1
	c := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	c.timer = -1
	return c
}
