// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/handover"
)

// succession is what a gateway takes over from the process before it, and hands on to the next.
type succession struct {
	name        string // where processes meet; empty: they don't
	log         *slog.Logger
	predecessor *handover.Predecessor

	mu      sync.Mutex
	server  *handover.Server
	leaving bool          // a successor that is ready ends this process
	over    chan struct{} // closed then
}

// inherit takes the sockets of a predecessor, which goes on accepting until it is stopped. Without them the gateway opens its own, as
// after a reboot.
func (s *succession) inherit(g *Gateway) {
	s.name, s.log, s.over = g.config.HandoverSocket, g.log, make(chan struct{})
	if s.name == "" {
		return
	}
	g.listeners.succeeded = s.succeeded
	predecessor, sockets, err := handover.Take(s.name)
	switch {
	case errors.Is(err, handover.ErrNobody):
	case err != nil:
		g.log.Error("Cannot take over the sockets of the process before; connection attempts may get lost when it ends", "error", err)
	default:
		g.log.Info("Took over the sockets of the process before", "sockets", len(sockets))
		s.predecessor, g.listeners.inherited = predecessor, sockets
	}
}

// begun closes inherited sockets that have no use any more, and tells the predecessor.
func (s *succession) begun(l *listeners) {
	l.inherited.Close()
	l.inherited = nil
	if s.predecessor != nil {
		if err := s.predecessor.Ready(); err != nil {
			s.log.Info("The process before has ended already", "error", err)
		}
	}
}

// offer makes the sockets available to a successor. It is repeated, because the predecessor has the name until it ends.
func (s *succession) offer(g *Gateway) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.listen(g)
}

// listen is offer with s.mu held.
func (s *succession) listen(g *Gateway) error {
	if s.name == "" || s.server != nil || g.draining.Load() {
		return nil
	}
	server, err := handover.Listen(s.name, func() (handover.Sockets, error) {
		g.configMu.Lock()
		defer g.configMu.Unlock()
		return g.listeners.sockets()
	})
	if err != nil {
		return err
	}
	s.server = server
	go s.watch(server)
	return nil
}

// watch ends this process for a successor that is ready, if that was asked for.
func (s *succession) watch(server *handover.Server) {
	for range server.Ready() {
		s.mu.Lock()
		leaving := s.leaving
		s.mu.Unlock()
		if leaving {
			close(s.over)
			return
		}
	}
}

func (s *succession) succeeded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server != nil && s.server.Successors() > 0
}

// replaced is closed when a successor has taken over after Gateway.Leave.
func (s *succession) replaced() <-chan struct{} { return s.over }

func (s *succession) end() {
	s.mu.Lock()
	server := s.server
	s.mu.Unlock()
	if server != nil {
		_ = server.Close()
	}
	if s.predecessor != nil {
		_ = s.predecessor.Gone()
	}
}

// Leave has Run end as soon as another process that was started from the same bootstrap file has taken over. The channel is closed
// then. It fails when no process could take over now.
func (g *Gateway) Leave() (<-chan struct{}, error) {
	s := &g.succession
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.listen(g); err != nil {
		return nil, fmt.Errorf("the process before this one has not ended yet: %w", err)
	}
	if s.server == nil {
		return nil, errors.New("handoverSocket is not set in the bootstrap file, or the gateway is draining")
	}
	s.leaving = true
	return s.over, nil
}

// Stay takes Leave back.
func (g *Gateway) Stay() {
	g.succession.mu.Lock()
	defer g.succession.mu.Unlock()
	g.succession.leaving = false
}
