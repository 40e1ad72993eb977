// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package relay moves the bytes of many TCP connections that are nearly always idle.
//
// A kubelet, a controller or a kubectl --watch holds its connection for days and sends a few bytes a
// minute, so what counts is what an idle connection costs. A goroutine per direction costs two stacks,
// and Go's own splice keeps two pipes. Here a few event loops (epoll, edge-triggered) own all
// connections; an idle one is two sockets and one small struct. A loop reads into one buffer that all
// its connections share, and a direction that streams borrows a pipe to splice through for as long
// as it does.
//
// The package knows nothing of tenants: a Policy says where a connection goes once its ClientHello is
// there. It needs Linux.
package relay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/hello"
)

// Incoming is a connection as far as it is known before it is routed.
type Incoming struct {
	// Listener is where it came in.
	Listener *Listener
	// Client is its remote address, or the one that the load balancer in front of us gave.
	Client netip.AddrPort
	// Via is the address of that load balancer; invalid when there is none.
	Via netip.Addr
	// Dialled is the address on this host that the client, or the load balancer, connected to.
	Dialled netip.AddrPort
	// Hello holds what the client sent, nil when it sent nothing. It is only valid during the call.
	Hello *hello.Buffer
}

// Policy decides where connections go. Event loops call it, several at the same time, and wait for it:
// it must not block.
type Policy interface {
	// Route is asked when the ClientHello of in is complete. It returns the flow to open, or why not.
	Route(in Incoming) (Flow, *Refusal)
	// Rejected tells of a connection that ended before it had a flow.
	Rejected(in Incoming, why Reason)
}

// Flow is a routed connection from the policy's side. One event loop calls it.
type Flow interface {
	// Group is the set that the connection belongs to, see Relay.CloseGroup. May be nil.
	Group() *Group
	// Meter counts the bytes while they are moved.
	Meter() *Meter
	// Next is the address to connect to and how long to try. It is asked first with nil, then with
	// the error of the attempt before. False gives up, and the client is disconnected.
	Next(failed error) (netip.AddrPort, time.Duration, bool)
	// Done is the last call.
	Done(Summary)
}

// Meter counts bytes from clients to upstreams and back. Connections may share one.
type Meter struct{ Sent, Received atomic.Uint64 }

// Refusal is why a connection gets no flow.
type Refusal struct {
	// Reason is passed on to Policy.Rejected.
	Reason Reason
	// Alert is the fatal TLS alert (RFC 8446 section 6) that the client is sent; 0: none.
	Alert byte
}

// Reason says why a connection ended, as one word for logs and metric labels.
type Reason string

// The reasons of this package. A Refusal may have others.
const (
	Finished       Reason = "finished"         // both sides closed their direction
	ClientReset    Reason = "client_reset"     // the client broke the connection
	UpstreamReset  Reason = "upstream_reset"   // the upstream broke the connection
	ConnectFailed  Reason = "connect_failed"   // no upstream address took the connection
	GroupClosed    Reason = "route_removed"    // CloseGroup
	Shutdown       Reason = "shutdown"         // the relay was shut down
	Overload       Reason = "overload"         // more connections than file descriptors allow
	HelloTimeout   Reason = "hello_timeout"    // no complete ClientHello in time
	NotTLS         Reason = "not_tls"          // something else than TLS
	HelloMalformed Reason = "malformed_hello"  // TLS, but no usable ClientHello
	ClientGone     Reason = "closed_by_client" // the client left before its ClientHello was complete
	HelloCrowded   Reason = "hello_crowded"    // too many were without a complete ClientHello, and it was the oldest
	BadProxyHeader Reason = "bad_proxy_header" // a load balancer did not begin with a PROXY protocol header
	TooOld         Reason = "max_age"          // it reached the age that connections may have
)

// Summary is what happened on a flow.
type Summary struct {
	// Reason is why it ended.
	Reason Reason
	// Local is the address this host had on the upstream connection, by which the upstream's own log
	// knows the client. Invalid when none came about.
	Local netip.AddrPort
	// Sent and Received count the bytes from client to upstream and back.
	Sent, Received uint64
	// Duration is counted from the accept.
	Duration time.Duration
}

// Options are what a relay is made with. Zero values mean the defaults.
type Options struct {
	// Loops is the number of event loops, default one less than GOMAXPROCS: a loop gives its processor to other goroutines only when
	// it has nothing to do for a while.
	Loops int
	// HelloTimeout bounds the time from accept to the complete ClientHello, default 5 s.
	HelloTimeout time.Duration
	// Limits are those to begin with.
	Limits
}

// Relay owns listeners and connections.
type Relay struct {
	policy  Policy
	options Options
	limits  atomic.Pointer[Limits]
	loops   []*loop
	next    atomic.Uint32 // the loop of the next listener
	active  atomic.Int64
	// files is RLIMIT_NOFILE, sockets what the listeners have of it.
	files   int64
	sockets atomic.Int64
	pauses  atomic.Uint64
	running sync.WaitGroup

	mu        sync.Mutex
	listeners map[*Listener]struct{}
	closed    bool
}

// reservedFiles are kept for everything that is no relayed connection: logs, xDS, epoll, pipes.
const reservedFiles = 512

// New starts the event loops.
func New(policy Policy, options Options) (*Relay, error) {
	if options.Loops == 0 {
		options.Loops = max(runtime.GOMAXPROCS(0)-1, 1)
	}
	if options.HelloTimeout == 0 {
		options.HelloTimeout = 5 * time.Second
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, fmt.Errorf("reading RLIMIT_NOFILE: %w", err)
	}
	// The cap keeps the arithmetic sane where the limit is infinite.
	r := &Relay{policy: policy, options: options, files: int64(min(limit.Cur, 1<<31)), listeners: map[*Listener]struct{}{}}
	r.SetLimits(options.Limits)
	for i := range options.Loops {
		l, err := newLoop(r, i)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		r.loops = append(r.loops, l)
		r.running.Add(1)
		go l.run()
	}
	return r, nil
}

// Active is the number of open connections.
func (r *Relay) Active() int { return int(r.active.Load()) }

// Group is a set of connections that can be closed together. The zero value is empty.
type Group struct {
	once  sync.Once
	heads []*conn // by loop index; each list is touched by its loop only
}

func (g *Group) list(loops int) []*conn {
	g.once.Do(func() { g.heads = make([]*conn, loops) })
	return g.heads
}

// CloseGroup closes the connections of g. Flows that join g later are not affected, so stop routing to
// it first.
func (r *Relay) CloseGroup(g *Group) {
	for _, l := range r.loops {
		l.post(func() {
			for c := g.list(len(r.loops))[l.index]; c != nil; {
				next := c.next
				l.end(c, GroupClosed)
				c = next
			}
		})
	}
}

// Drain closes all listeners and waits until the last connection ended, or ctx did. Then it closes
// what is left and stops the event loops.
func (r *Relay) Drain(ctx context.Context) error {
	r.mu.Lock()
	listeners := r.listeners
	r.listeners, r.closed = map[*Listener]struct{}{}, true
	r.mu.Unlock()
	for l := range listeners {
		l.loop.post(func() { l.loop.removeListener(l) })
	}
	idle := make(chan struct{}, 1)
	for _, l := range r.loops {
		l.post(func() { l.idle = idle; l.checkIdle() })
	}
	for r.active.Load() > 0 && ctx.Err() == nil {
		select {
		case <-idle:
		case <-ctx.Done():
		}
	}
	for _, l := range r.loops {
		l.post(func() { l.stopping = true })
	}
	r.running.Wait()
	return ctx.Err()
}

// Close is Drain without waiting.
func (r *Relay) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Drain(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
