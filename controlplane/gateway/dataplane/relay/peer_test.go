// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	peerRelay      = "relay"
	peerGoroutines = "goroutines"
	peerHAProxy    = "haproxy"

	childEnv = "RELAY_TEST_CHILD" // what a process of this test binary is to be
	toEnv    = "RELAY_TEST_TO"    // and the backend to lead to
)

// TestMain lets the test binary be a peer for the benchmarks.
func TestMain(m *testing.M) {
	if kind := os.Getenv(childEnv); kind != "" {
		child(kind, netip.MustParseAddrPort(os.Getenv(toEnv)))
		return
	}
	os.Exit(m.Run())
}

// child relays until its standard input ends. It says where on standard output.
func child(kind string, to netip.AddrPort) {
	listen := netip.MustParseAddrPort("127.0.0.1:0")
	switch kind {
	case peerRelay:
		r, err := New(&fixed{group: new(Group), to: to}, Options{})
		if err != nil {
			panic(err)
		}
		l, err := r.Listen(listen, nil, ListenOptions{})
		if err != nil {
			panic(err)
		}
		fmt.Println(l.Addr)
	case peerGoroutines:
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(listen))
		if err != nil {
			panic(err)
		}
		fmt.Println(l.Addr())
		go goroutines(l, to)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// fixed is a policy with one address and no records.
type fixed struct {
	group *Group
	to    netip.AddrPort
	meter Meter
}

func (p *fixed) Route(Incoming) (Flow, *Refusal) { return &fixedFlow{policy: p}, nil }
func (p *fixed) Rejected(Incoming, Reason)       {}

type fixedFlow struct {
	policy *fixed
	tried  bool
}

func (f *fixedFlow) Group() *Group { return f.policy.group }
func (f *fixedFlow) Meter() *Meter { return &f.policy.meter }
func (f *fixedFlow) Done(Summary)  {}

func (f *fixedFlow) Next(error) (netip.AddrPort, time.Duration, bool) {
	first := !f.tried
	f.tried = true
	return f.policy.to, time.Second, first
}

// goroutines relays as most programs in Go do. It does not even look at the ClientHello.
func goroutines(l net.Listener, to netip.AddrPort) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = in.Close() }()
			out, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
			if err != nil {
				return
			}
			defer func() { _ = out.Close() }()
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = io.Copy(out, in)
				_ = out.CloseWrite()
			}()
			_, _ = io.Copy(in, out)
			_ = in.(*net.TCPConn).CloseWrite()
			<-done
		}()
	}
}

// peer is a process that relays.
type peer struct {
	addr netip.AddrPort
	pid  int
}

func startPeer(b *testing.B, kind string, to netip.AddrPort) *peer {
	b.Helper()
	if kind == peerHAProxy {
		return startHAProxy(b, to)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+kind, toEnv+"="+to.String(), "GOMAXPROCS=2")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return &peer{addr: netip.MustParseAddrPort(strings.TrimSpace(line)), pid: cmd.Process.Pid}
}

// haproxyConfig routes by server name as a gateway would.
const haproxyConfig = `
global
  nbthread 1
  maxconn 4000
defaults
  mode tcp
  option splice-auto
  timeout connect 1s
  timeout client 1h
  timeout server 1h
frontend public
  bind fd@3
  tcp-request inspect-delay 5s
  tcp-request content accept if { req_ssl_hello_type 1 }
  use_backend c1 if { req.ssl_sni,lower c1.example }
backend c1
  server s %s
`

func startHAProxy(b *testing.B, to netip.AddrPort) *peer {
	b.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		b.Skip("haproxy is not installed")
	}
	config := filepath.Join(b.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(config, fmt.Appendf(nil, haproxyConfig, to), 0o600); err != nil {
		b.Fatal(err)
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	file, err := l.File()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, "-db", "-f", config)
	cmd.ExtraFiles = []*os.File{file} // descriptor 3
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	_, _ = file.Close(), l.Close()
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return &peer{addr: addr, pid: cmd.Process.Pid}
}

// measure runs op and reports the processor time the peer needs for it.
func (p *peer) measure(b *testing.B, op func()) {
	op() // warms up
	before := p.cpu(b)
	n := 0
	for b.Loop() {
		op()
		n++
	}
	b.ReportMetric(float64(p.cpu(b)-before)/float64(n), "cpu-ns/op")
}

// cpu is the time its threads ran, in nanoseconds (first field of schedstat).
func (p *peer) cpu(b *testing.B) int64 {
	b.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.pid))
	if err != nil || len(files) == 0 {
		b.Fatalf("no threads of %d: %v", p.pid, err)
	}
	var sum int64
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that ended
		}
		n, err := strconv.ParseInt(strings.Fields(string(data))[0], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += n
	}
	return sum
}

// resident is its resident memory in bytes (second field of statm, in pages).
func (p *peer) resident(b *testing.B) int64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid))
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(data))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

func (p *peer) descriptors(b *testing.B) int {
	b.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
	if err != nil {
		b.Fatal(err)
	}
	return len(entries)
}
