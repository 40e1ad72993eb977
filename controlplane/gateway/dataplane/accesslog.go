// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"encoding/json"
	"io"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/relay"
)

// entry is one line of the access log: a connection that ended, or was refused.
type entry struct {
	Client   netip.AddrPort
	Via      netip.Addr // the load balancer that named the client
	Listener string
	// Address is where a refused connection came in.
	Address netip.AddrPort
	SNI     string
	Route   string
	// Upstream is the endpoint, and UpstreamLocalPort the port of this host that it saw: with the two, a
	// line of the API server's audit log, whose sourceIPs name the gateway, is traced to its client.
	Upstream          netip.AddrPort
	UpstreamLocalPort uint16
	Sent              uint64 // client to upstream
	Received          uint64 // upstream to client
	DurationMS        int64
	Reason            relay.Reason
}

// append adds e as a line of JSON. Fields without a value are left out, except for counts.
func (e *entry) append(b []byte, now time.Time) []byte {
	b = append(b, `{"time":"`...)
	b = now.AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	b = appendAddrPort(b, "client", e.Client)
	if e.Via.IsValid() {
		b = append(e.Via.AppendTo(append(b, `,"via":"`...)), '"')
	}
	b = appendString(b, "listener", e.Listener)
	b = appendAddrPort(b, "address", e.Address)
	b = appendString(b, "sni", e.SNI)
	b = appendString(b, "route", e.Route)
	b = appendAddrPort(b, "upstream", e.Upstream)
	if e.UpstreamLocalPort != 0 {
		b = strconv.AppendUint(append(b, `,"upstreamLocalPort":`...), uint64(e.UpstreamLocalPort), 10)
	}
	b = strconv.AppendUint(append(b, `,"bytesSent":`...), e.Sent, 10)
	b = strconv.AppendUint(append(b, `,"bytesReceived":`...), e.Received, 10)
	b = strconv.AppendInt(append(b, `,"durationMs":`...), e.DurationMS, 10)
	return append(appendString(b, "reason", string(e.Reason)), "}\n"...)
}

func appendAddrPort(b []byte, name string, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":"`...)
	return append(a.AppendTo(b), '"')
}

func appendString(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":`...)
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(value) // no string is beyond it
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), value...), '"')
}

const (
	// accessLogBuffer is how much may wait to be written, in bytes: some 16 000 lines.
	accessLogBuffer = 4 << 20
	// accessLogDelay is how long lines wait for others to be written with them, so that the writer is not woken up for each.
	accessLogDelay = 50 * time.Millisecond
)

// accessLog writes entries without making event loops wait: when the reader of the log is too slow,
// entries are dropped and counted.
type accessLog struct {
	mu      sync.Mutex
	waiting []byte
	closed  bool

	some    chan struct{} // told when something begins to wait
	dropped atomic.Uint64
	done    chan struct{}
}

func newAccessLog(w io.Writer) *accessLog {
	l := &accessLog{some: make(chan struct{}, 1), done: make(chan struct{})}
	go l.run(w)
	return l
}

func (l *accessLog) write(e *entry) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) > accessLogBuffer || l.closed {
		l.dropped.Add(1)
		return
	}
	first := len(l.waiting) == 0
	l.waiting = e.append(l.waiting, now)
	if first {
		l.wake()
	}
}

func (l *accessLog) wake() {
	select {
	case l.some <- struct{}{}:
	default:
	}
}

func (l *accessLog) run(w io.Writer) {
	defer close(l.done)
	pause := time.NewTimer(accessLogDelay)
	var writing []byte
	for range l.some {
		pause.Reset(accessLogDelay)
		select {
		case <-pause.C:
		case <-l.some: // only close does that
		}
		l.mu.Lock()
		writing, l.waiting = l.waiting, writing[:0]
		last := l.closed
		l.mu.Unlock()
		l.output(w, writing)
		if last {
			return
		}
	}
}

// output writes lines. When that fails, those that were not written are counted.
func (l *accessLog) output(w io.Writer, lines []byte) {
	if len(lines) == 0 {
		return
	}
	n, err := w.Write(lines)
	if err == nil {
		return
	}
	for _, c := range lines[n:] {
		if c == '\n' {
			l.dropped.Add(1)
		}
	}
}

// close writes what waits. Entries are dropped afterwards.
func (l *accessLog) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.wake()
	<-l.done
}
