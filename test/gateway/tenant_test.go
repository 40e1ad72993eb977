// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

// patience is how long a client waits for an answer before it counts as none.
const patience = 10 * time.Second

// tenant is a hosted control plane whose servers greet with their name on the first byte and then echo: what a gateway is to a client
// does not depend on what they say to each other.
type tenant struct {
	route.Tenant
	backends route.Backends
	servers  map[string]*greeter
}

// newTenant has a server for each port of a control plane.
func (w *world) newTenant(t testing.TB, name string) *tenant {
	t.Helper()
	n := &tenant{
		Tenant: route.Tenant{
			Namespace: "tenants", Name: name, Gateway: w.gateway.Name, Hostname: name + ".k8s.example.com", Port: freePort(t),
			AdditionalHostnames: []string{name + ".customer.example"}, Address: w.nextAddress(),
		},
		backends: route.Backends{}, servers: map[string]*greeter{},
	}
	n.serve(t, route.PortAPIServer, name+" apiserver")
	n.serve(t, route.PortKonnectivity, name+" konnectivity")
	w.set(t, n.Tenant, n.backends)
	return n
}

// newActivator has a server that takes connections to sleeping tenants.
func (w *world) newActivator(t testing.TB) route.Endpoint {
	t.Helper()
	at := newGreeter(t, "activator").endpoint()
	must(t, w.state.SetActivator([]route.Endpoint{at}))
	return at
}

// serve adds an endpoint.
func (n *tenant) serve(t testing.TB, port, greeting string) *greeter {
	t.Helper()
	g := newGreeter(t, greeting)
	n.servers[greeting] = g
	n.backends[port] = append(n.backends[port], g.endpoint())
	return g
}

// greeter is one endpoint.
type greeter struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func newGreeter(t testing.TB, greeting string) *greeter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	g := &greeter{Listener: l}
	t.Cleanup(g.stop)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.mu.Lock()
			g.conns = append(g.conns, c)
			g.mu.Unlock()
			go greet(c, greeting)
		}
	}()
	return g
}

// greet answers the ClientHello with a line, then every line with itself, and the end of the client's stream with "bye".
func greet(c net.Conn, greeting string) {
	defer func() { _ = c.Close() }()
	first := make([]byte, 16<<10)
	if _, err := c.Read(first); err != nil {
		return
	}
	if _, err := io.WriteString(c, greeting+"\n"); err != nil {
		return
	}
	lines := bufio.NewReader(c)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			_, _ = io.WriteString(c, "bye\n")
			return
		}
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, line); err != nil {
			return
		}
	}
}

func (g *greeter) endpoint() route.Endpoint {
	at := g.Addr().(*net.TCPAddr).AddrPort()
	return route.Endpoint{Address: at.Addr(), Port: at.Port()}
}

func (g *greeter) stop() {
	_ = g.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		_ = c.Close()
	}
}

// visit is how a client comes.
type visit struct {
	// from is the client's address; the zero Addr leaves it to the kernel.
	from netip.Addr
	to   netip.AddrPort
	// name is the server name, "" for none.
	name      string
	protocols []string
	// raw is sent in place of a ClientHello.
	raw []byte
}

// client is an open connection that was greeted.
type client struct {
	*net.TCPConn
	in *bufio.Reader
}

// connect returns the connection and the greeting, or "" when the gateway let no server greet.
func connect(t testing.TB, v visit) (*client, string) {
	t.Helper()
	dialer := net.Dialer{Timeout: patience}
	if v.from.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(v.from, 0))
	}
	c, err := dialer.DialContext(t.Context(), "tcp", v.to.String())
	if err != nil {
		return nil, ""
	}
	t.Cleanup(func() { _ = c.Close() })
	raw := v.raw
	if raw == nil {
		raw = clientHello(v.name, v.protocols...)
	}
	if _, err := c.Write(raw); err != nil {
		return nil, ""
	}
	must(t, c.SetReadDeadline(time.Now().Add(patience)))
	in := bufio.NewReader(c)
	line, err := in.ReadString('\n')
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection to %s as %q is neither served nor closed", v.to, v.name)
	}
	must(t, c.SetReadDeadline(time.Time{}))
	if err != nil || strings.HasPrefix(line, "HTTP/") { // a gateway may tell who spoke HTTP that this is TLS
		return nil, ""
	}
	return &client{c.(*net.TCPConn), in}, strings.TrimSuffix(line, "\n")
}

// open is connect for connections that have to be greeted, and by whom.
func open(t testing.TB, v visit, want string) *client {
	t.Helper()
	c, greeting := connect(t, v)
	if greeting != want {
		t.Fatalf("a connection to %s as %q reaches %q, want %q", v.to, v.name, greeting, want)
	}
	return c
}

// alive has a line go around.
func (c *client) alive() bool {
	if _, err := io.WriteString(c, "ping\n"); err != nil {
		return false
	}
	if c.SetReadDeadline(time.Now().Add(patience)) != nil {
		return false
	}
	line, err := c.in.ReadString('\n')
	return err == nil && line == "ping\n"
}
