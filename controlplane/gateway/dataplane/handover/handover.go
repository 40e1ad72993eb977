// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package handover lets a process give its listening sockets to the one that is to replace it, so that no connection attempt is lost:
// both accept from the same queue, and what waits in it when the old process leaves is the new one's. (With a socket each, as
// SO_REUSEPORT alone would have it, the queue of the old one is reset.)
//
// They meet at a Unix socket. In a DaemonSet that is one in the abstract name space, which pods on the host network share.
package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// batch is how many sockets go in one message; the kernel takes 253 at most.
	batch = 128
	// messageSize is more than their addresses need.
	messageSize = 16 << 10
	// patience bounds the wait for the other process.
	patience = 10 * time.Second
)

// ErrNobody is what Take returns when there is no predecessor.
var ErrNobody = errors.New("no process to take over from")

// Sockets are listening ones by their address.
type Sockets map[netip.AddrPort]int

// Close closes them.
func (s Sockets) Close() {
	for _, fd := range s {
		_ = unix.Close(fd)
	}
}

// Server gives sockets to successors.
type Server struct {
	listener   *net.UnixListener
	sockets    func() (Sockets, error)
	ready      chan struct{}
	successors atomic.Int64
	running    sync.WaitGroup
}

// Listen serves at name, "@…" for the abstract name space. It fails while another process does. sockets returns duplicates, which
// the server closes.
func Listen(name string, sockets func() (Sockets, error)) (*Server, error) {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Net: "unixpacket", Name: name})
	if err != nil {
		return nil, fmt.Errorf("waiting for a successor: %w", err)
	}
	s := &Server{listener: l, sockets: sockets, ready: make(chan struct{}, 1)}
	s.running.Go(s.run)
	return s, nil
}

// Successors is how many processes hold the sockets, too.
func (s *Server) Successors() int { return int(s.successors.Load()) }

// Ready is told when a successor said that it accepts connections.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Close ends the service; successors keep what they have.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.running.Wait()
	close(s.ready)
	return err
}

func (s *Server) run() {
	var conns sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	defer conns.Wait()
	defer cancel()
	for {
		c, err := s.listener.AcceptUnix()
		if err != nil {
			return
		}
		conns.Go(func() {
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			defer func() { _ = c.Close() }()
			s.serve(c)
		})
	}
}

// serve gives the sockets to one successor, and stays until it is gone.
func (s *Server) serve(c *net.UnixConn) {
	if !sameUser(c) {
		return
	}
	s.successors.Add(1) // before the sockets are listed: none is opened after that
	defer s.successors.Add(-1)
	if err := s.give(c); err != nil {
		return
	}
	message := make([]byte, 1)
	for {
		if n, err := c.Read(message); err != nil || n == 0 {
			return
		}
		select {
		case s.ready <- struct{}{}:
		default:
		}
	}
}

func (s *Server) give(c *net.UnixConn) error {
	sockets, err := s.sockets()
	if err != nil {
		return err
	}
	defer sockets.Close()
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	var addrs []netip.AddrPort
	var fds []int
	send := func() error {
		message, err := json.Marshal(addrs)
		if err != nil {
			return err
		}
		var rights []byte
		if len(fds) > 0 {
			rights = unix.UnixRights(fds...)
		}
		_, _, err = c.WriteMsgUnix(message, rights, nil)
		addrs, fds = nil, nil
		return err
	}
	for addr, fd := range sockets {
		addrs, fds = append(addrs, addr), append(fds, fd)
		if len(fds) == batch {
			if err := send(); err != nil {
				return err
			}
		}
	}
	if len(fds) > 0 {
		if err := send(); err != nil {
			return err
		}
	}
	return send() // an empty list ends it
}

// sameUser says whether the other process runs as the same user. One that does could share the addresses anyhow.
func sameUser(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	if controlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); controlErr != nil || err != nil {
		return false
	}
	return int(cred.Uid) == os.Geteuid()
}

// Predecessor is the process that sockets were taken from.
type Predecessor struct{ conn *net.UnixConn }

// Take asks the process that serves at name for its sockets. ErrNobody when there is none.
func Take(name string) (*Predecessor, Sockets, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: name})
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
		return nil, nil, ErrNobody
	}
	if err != nil {
		return nil, nil, fmt.Errorf("asking for sockets: %w", err)
	}
	sockets, err := receive(c)
	if err != nil {
		sockets.Close()
		return nil, nil, errors.Join(fmt.Errorf("receiving sockets: %w", err), c.Close())
	}
	return &Predecessor{conn: c}, sockets, nil
}

// receive returns what arrived also with an error.
func receive(c *net.UnixConn) (Sockets, error) {
	sockets := Sockets{}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	message, rights := make([]byte, messageSize), make([]byte, unix.CmsgSpace(4*batch))
	for {
		n, nRights, _, _, err := c.ReadMsgUnix(message, rights)
		if err != nil {
			return sockets, err
		}
		fds, err := descriptors(rights[:nRights])
		if err != nil {
			return sockets, err
		}
		var addrs []netip.AddrPort
		if err := json.Unmarshal(message[:n], &addrs); err != nil || len(addrs) != len(fds) {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
			return sockets, fmt.Errorf("%d addresses for %d sockets: %w", len(addrs), len(fds), err)
		}
		if len(addrs) == 0 {
			return sockets, nil
		}
		for i, addr := range addrs {
			sockets[addr] = fds[i]
		}
	}
}

func descriptors(rights []byte) ([]int, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var out []int
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return out, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
		}
		out = append(out, fds...)
	}
	return out, nil
}

// Ready tells the predecessor that this process accepts connections.
func (p *Predecessor) Ready() error {
	_, err := p.conn.Write([]byte{1})
	return err
}

// Gone is called when nothing more is wanted of the predecessor.
func (p *Predecessor) Gone() error { return p.conn.Close() }
