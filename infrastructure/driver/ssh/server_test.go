// SPDX-License-Identifier: Apache-2.0

package ssh_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

// keyPair is an ed25519 key in the forms that tests need.
type keyPair struct {
	signer     ssh.Signer
	private    []byte
	authorized string
}

func newKeyPair(t testing.TB) keyPair {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return keyPair{signer, pem.EncodeToMemory(block), string(ssh.MarshalAuthorizedKey(signer.PublicKey()))}
}

// server is an SSH server that hands commands to a function making a process of them.
type server struct {
	host, client keyPair
	address      *net.TCPAddr
	command      func(text string) *exec.Cmd

	mu       sync.Mutex
	commands []string
}

func serve(t testing.TB, command func(string) *exec.Cmd) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	s := &server{host: newKeyPair(t), client: newKeyPair(t), address: listener.Addr().(*net.TCPAddr), command: command}
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(key.Marshal(), s.client.signer.PublicKey().Marshal()) {
			return nil, errors.New("unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(s.host.signer)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go s.connection(conn, config)
		}
	}()
	return s
}

// received are the commands sent so far.
func (s *server) received() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.commands...)
}

func (s *server) connection(conn net.Conn, config *ssh.ServerConfig) {
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		_ = conn.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		if c.ChannelType() != "session" {
			_ = c.Reject(ssh.UnknownChannelType, "")
			continue
		}
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		go s.session(channel, requests)
	}
}

func (s *server) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer func() { _ = channel.Close() }()
	for r := range requests {
		if r.Type != "exec" {
			_ = r.Reply(false, nil)
			continue
		}
		var payload struct{ Command string }
		if err := ssh.Unmarshal(r.Payload, &payload); err != nil {
			return
		}
		s.mu.Lock()
		s.commands = append(s.commands, payload.Command)
		s.mu.Unlock()
		_ = r.Reply(true, nil)
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{s.run(channel, payload.Command)}))
		return
	}
}

// run ends with the command, even when a process it left holds its output.
func (s *server) run(channel ssh.Channel, text string) uint32 {
	cmd := s.command(text)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		return 127
	}
	go func() {
		_, _ = io.Copy(stdin, channel)
		_ = stdin.Close()
	}()
	err = cmd.Wait()
	_, _ = io.Copy(channel, &stdout)
	_, _ = io.Copy(channel.Stderr(), strings.NewReader(stderr.String()))
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return uint32(max(exit.ExitCode(), 1))
	}
	return 0
}
