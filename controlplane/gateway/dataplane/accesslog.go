// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bufio"
	"encoding/json"
	"io"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/relay"
)

// entry is one line of the access log: a connection that ended, or was refused.
type entry struct {
	Time     time.Time      `json:"time"`
	Client   netip.AddrPort `json:"client"`
	Listener string         `json:"listener"`
	// Address is where a refused connection came in.
	Address netip.AddrPort `json:"address,omitzero"`
	SNI     string         `json:"sni,omitempty"`
	Route   string         `json:"route,omitempty"`
	// Upstream is the endpoint, and UpstreamLocalPort the port of this host that it saw: with the two, a
	// line of the API server's audit log, whose sourceIPs name the gateway, is traced to its client.
	Upstream          netip.AddrPort `json:"upstream,omitzero"`
	UpstreamLocalPort uint16         `json:"upstreamLocalPort,omitempty"`
	Sent              uint64         `json:"bytesSent"`     // client to upstream
	Received          uint64         `json:"bytesReceived"` // upstream to client
	DurationMS        int64          `json:"durationMs"`
	Reason            relay.Reason   `json:"reason"`
}

// accessLog writes entries without making event loops wait: when the reader of the log is too slow,
// entries are dropped and counted.
type accessLog struct {
	entries chan entry
	dropped atomic.Uint64
	done    chan struct{}
}

// accessLogQueue is how many lines may wait, some 200 bytes each.
const accessLogQueue = 8192

func newAccessLog(w io.Writer) *accessLog {
	l := &accessLog{entries: make(chan entry, accessLogQueue), done: make(chan struct{})}
	go l.run(w)
	return l
}

func (l *accessLog) write(e entry) {
	e.Time = time.Now()
	select {
	case l.entries <- e:
	default:
		l.dropped.Add(1)
	}
}

func (l *accessLog) run(w io.Writer) {
	defer close(l.done)
	out := bufio.NewWriterSize(w, 64<<10)
	lines := json.NewEncoder(out)
	for e := range l.entries {
		if lines.Encode(e) != nil {
			l.dropped.Add(1)
			out.Reset(w) // a bufio.Writer stays broken otherwise
		}
		if len(l.entries) == 0 && out.Flush() != nil {
			l.dropped.Add(1)
			out.Reset(w)
		}
	}
}

// close writes what waits. Nothing may be written afterwards.
func (l *accessLog) close() {
	close(l.entries)
	<-l.done
}
