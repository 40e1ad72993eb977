// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

const (
	// answerSize is what a backend says first, and what a ping carries.
	answerSize = 128
	// streamCommand asks a backend for streamBlock bytes; anything else is echoed.
	streamCommand = 'S'
	streamBlock   = 64 << 20
	// patience bounds every wait for a proxy, so that a broken one ends the run.
	patience = time.Minute
)

// first is what a client sends first: the ClientHello of a real client, with post-quantum key shares, which is longer than a packet.
func first(name string) ([]byte, error) {
	s := new(recorder)
	if err := tls.Client(s, &tls.Config{ServerName: name, NextProtos: []string{"h2", "http/1.1"}}).Handshake(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("making a ClientHello: %w", err)
	}
	return s.Bytes(), nil
}

type recorder struct {
	net.Conn
	bytes.Buffer
}

func (*recorder) Read([]byte) (int, error)      { return 0, io.EOF }
func (r *recorder) Write(p []byte) (int, error) { return r.Buffer.Write(p) }
func (*recorder) Close() error                  { return nil }

// backend accepts connections that begin with size bytes of ClientHello, answers and serves commands.
func backend(size int) (netip.AddrPort, func(), error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c, size)
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort(), func() { _ = l.Close() }, nil
}

var block = make([]byte, 256<<10)

func serve(c net.Conn, size int) {
	defer func() { _ = c.Close() }()
	if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
		return
	}
	if _, err := c.Write(block[:answerSize]); err != nil {
		return
	}
	buf := make([]byte, answerSize)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if buf[0] != streamCommand {
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
			continue
		}
		for range streamBlock / len(block) {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	}
}

// open connects to a proxy, or to a backend itself, sends hello and reads the answer.
func open(to netip.AddrPort, hello []byte) (*net.TCPConn, error) {
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(hello); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	var answer [answerSize]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return nil, errors.Join(fmt.Errorf("reading the answer: %w", err), c.Close())
	}
	return c, nil
}

// ping has answerSize bytes go there and back.
func ping(c *net.TCPConn, buf *[answerSize]byte) error {
	if _, err := c.Write(buf[:]); err != nil {
		return err
	}
	_, err := io.ReadFull(c, buf[:])
	return err
}
