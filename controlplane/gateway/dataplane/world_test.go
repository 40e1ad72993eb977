// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/bootstrap"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds/server"
)

const xdsName = "kamaji-xds.kamaji-system.svc"

// until waits for something that another goroutine does; it fails the test when that does not happen at all.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	giveUp := time.After(time.Minute)
	for !done() {
		select {
		case <-poll.C:
		case <-giveUp:
			t.Fatalf("never: %s", what)
		}
	}
}

// authority is a certificate authority.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key = a.sign(t, template)
	return a
}

func (a *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// issue makes a certificate for names and addresses, or for a URI.
func (a *authority) issue(t *testing.T, names []string, addresses []net.IP, uri string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: names, IPAddresses: addresses, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if uri != "" {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = []*url.URL{u}
	}
	cert, key := a.sign(t, template)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// write stores the CA and cert as tls.crt, tls.key and ca.crt.
func (a *authority) write(t *testing.T, dir string, cert tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"ca.crt":  {Type: "CERTIFICATE", Bytes: a.cert.Raw},
		"tls.crt": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]},
		"tls.key": {Type: "EC PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// tenant is a hosted control plane: an authority and TLS servers that say who they are and then echo.
type tenant struct {
	route.Tenant
	authority *authority
	backends  route.Backends
	servers   map[netip.AddrPort]net.Listener
}

func (w *world) newTenant(t *testing.T, name string) *tenant {
	t.Helper()
	n := &tenant{
		Tenant: route.Tenant{
			Namespace: "tenants", Name: name, Gateway: w.gateway.Name, Hostname: name + ".k8s.example.com",
			AdditionalHostnames: []string{name + ".customer.example"}, Port: freePort(t, w.gateway.PrivateAddress),
		},
		authority: newAuthority(t), backends: route.Backends{}, servers: map[netip.AddrPort]net.Listener{},
	}
	n.serve(t, route.PortAPIServer, "apiserver", []string{"h2", "http/1.1"})
	n.serve(t, route.PortKonnectivity, "konnectivity", []string{"h2"})
	w.set(t, n)
	return n
}

// serve adds an endpoint that greets with "<tenant> <role> <its address>".
func (n *tenant) serve(t *testing.T, port, role string, protocols []string) {
	t.Helper()
	cert := n.authority.issue(t, []string{n.Hostname, n.AdditionalHostnames[0], "kubernetes.default.svc"}, []net.IP{net.IPv4(10, 96, 0, 1)}, "")
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protocols})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				if _, err := io.WriteString(c, n.Name+" "+role+" "+l.Addr().String()+"\n"); err == nil {
					_, _ = io.Copy(c, c)
				}
			}()
		}
	}()
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	n.servers[addr] = l
	n.backends[port] = append(n.backends[port], route.Endpoint{Address: addr.Addr(), Port: addr.Port()})
}

// world is a gateway with its control plane.
type world struct {
	gateway   route.Gateway
	state     *server.State
	ca        *authority
	xds       string // address of the control plane
	config    *bootstrap.Config
	accessLog *lines
	stop      func() // stops the control plane; not again when it is stopped
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{ca: newAuthority(t), state: server.NewState(), accessLog: &lines{}}
	w.gateway = route.Gateway{
		Name: "default", PublicAddress: netip.MustParseAddr("127.0.0.2"), PrivateAddress: netip.MustParseAddr("127.0.0.3"),
	}
	w.gateway.Port = freePort(t, w.gateway.PublicAddress)
	if err := w.state.SetGateway(w.gateway); err != nil {
		t.Fatal(err)
	}
	certs := t.TempDir()
	w.ca.write(t, certs, w.ca.issue(t, nil, nil, route.Identity(w.gateway.Name)))
	w.xds = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t, netip.MustParseAddr("127.0.0.1"))).String()
	none := 0
	w.config = &bootstrap.Config{
		Node: bootstrap.Node{Gateway: w.gateway.Name, Instance: "test"},
		XDS: bootstrap.XDS{
			Address: w.xds, ServerName: xdsName,
			CAFile: filepath.Join(certs, "ca.crt"), CertFile: filepath.Join(certs, "tls.crt"), KeyFile: filepath.Join(certs, "tls.key"),
		},
		StateDir: t.TempDir(), HealthAddress: "127.0.0.1:0", DrainSeconds: &none,
	}
	w.startControlPlane(t)
	return w
}

func (w *world) startControlPlane(t *testing.T) {
	t.Helper()
	certs := t.TempDir()
	w.ca.write(t, certs, w.ca.issue(t, []string{xdsName}, nil, ""))
	lis, err := net.Listen("tcp", w.xds)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- (&server.Server{State: w.state, TLS: server.TLSFilesIn(certs)}).Serve(ctx, lis) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("control plane: %v", err)
		}
	})
	t.Cleanup(w.stop)
}

func (w *world) set(t *testing.T, n *tenant) {
	t.Helper()
	if refused, err := w.state.SetTenant(n.Tenant, n.backends); err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
}

// run starts a gateway and returns it with a function that ends it.
func (w *world) run(t *testing.T) (*Gateway, func()) {
	t.Helper()
	g, err := New(w.config, Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), AccessLog: w.accessLog})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("gateway: %v", err)
		}
	})
	t.Cleanup(end)
	return g, end
}

// start runs a gateway that has the routes of all tenants.
func (w *world) start(t *testing.T, tenants ...*tenant) (*Gateway, func()) {
	t.Helper()
	g, end := w.run(t)
	until(t, "the routes arrive", func() bool { return g.configured.Load() && g.routes.Len() == routesPerTenant*len(tenants) })
	return g, end
}

const routesPerTenant = 7 // name on two listeners and port, each with and without konnectivity, and another public name

func (w *world) public() netip.AddrPort {
	return netip.AddrPortFrom(w.gateway.PublicAddress, w.gateway.Port)
}

func (w *world) private() netip.AddrPort {
	return netip.AddrPortFrom(w.gateway.PrivateAddress, w.gateway.Port)
}

func (w *world) own(n *tenant) netip.AddrPort {
	return netip.AddrPortFrom(w.gateway.PrivateAddress, n.Port)
}

// client is an open TLS connection to a tenant.
type client struct {
	*tls.Conn
	in *bufio.Reader
}

// dial connects to addr with name, trusting the authority of n only, and returns the greeting without the address.
func (n *tenant) dial(t *testing.T, addr netip.AddrPort, name string, protocols ...string) (*client, string, error) {
	t.Helper()
	c, err := tls.Dial("tcp", addr.String(), &tls.Config{ServerName: name, RootCAs: n.authority.pool(), NextProtos: protocols})
	if err != nil {
		return nil, "", err
	}
	t.Cleanup(func() { _ = c.Close() })
	in := bufio.NewReader(c)
	line, err := in.ReadString('\n')
	if err != nil {
		return nil, "", err
	}
	return &client{c, in}, strings.TrimSuffix(line, "\n"), nil
}

// handshake is the client's side of TLS over c, to the public name, and the greeting.
func (n *tenant) handshake(c net.Conn) error {
	conn := tls.Client(c, &tls.Config{ServerName: n.Hostname, RootCAs: n.authority.pool()})
	_, err := bufio.NewReader(conn).ReadString('\n')
	return err
}

// must is dial for connections that have to work.
func (n *tenant) must(t *testing.T, addr netip.AddrPort, name string, protocols ...string) *client {
	t.Helper()
	c, _, err := n.dial(t, addr, name, protocols...)
	if err != nil {
		t.Fatalf("connecting to %s as %q: %v", addr, name, err)
	}
	return c
}

// alive has a line go around.
func (c *client) alive() bool {
	if _, err := io.WriteString(c, "ping\n"); err != nil {
		return false
	}
	line, err := c.in.ReadString('\n')
	return err == nil && line == "ping\n"
}

// ended waits for the end of the connection.
func (c *client) ended() { _, _ = io.Copy(io.Discard, c.in) }

// given are the ports that freePort returned: one is used on several addresses.
var given = map[uint16]bool{}

func freePort(t *testing.T, addr netip.Addr) uint16 {
	t.Helper()
	for {
		l, err := net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).AddrPort().Port()
		_ = l.Close()
		if !given[port] {
			given[port] = true
			return port
		}
	}
}

// lines collects what is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.buf.String(), "\n"), "\n")
}
