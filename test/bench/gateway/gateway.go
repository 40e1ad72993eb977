// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/bootstrap"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds/server"
)

const (
	// serverName is in the certificate of the control plane.
	serverName = "xds.example"
	// firstPort of the tenants.
	firstPort = 20000
)

// gateway is our data plane as a process, and its control plane in this one.
type gateway struct {
	*process
	route route.Gateway
	state *server.State
	to    netip.AddrPort // the endpoint of all tenants
	ways  ways
	file  string // its bootstrap file
	stop  func()
}

func (g *gateway) public() netip.AddrPort {
	return netip.AddrPortFrom(g.route.PublicAddress, g.route.Port)
}

// ways lead to a tenant besides its host name.
type ways int

const (
	// byPort is a port of its own on the private address: a socket for each tenant.
	byPort ways = iota
	// byAddress is a private address of its own: one socket for all tenants.
	byAddress
)

// tenantNetwork has the tenants' private addresses. All of 127.0.0.0/8 is local without a route.
var tenantNetwork = netip.MustParsePrefix("127.64.0.0/16")

func addressOf(i int) netip.Addr {
	place := i + 1
	return netip.AddrFrom4([4]byte{127, 64, byte(place >> 8), byte(place)})
}

// entrance is where a client reaches tenant i: the public address, or the tenant's own.
func (g *gateway) entrance(i int) netip.AddrPort {
	if g.ways == byAddress {
		return netip.AddrPortFrom(addressOf(i), g.route.Port)
	}
	return g.public()
}

// set adds tenant i.
func (g *gateway) set(i int) error {
	t := route.Tenant{Namespace: "tenants", Name: fmt.Sprintf("tenant-%d", i), Gateway: g.route.Name, Hostname: hostName(i), Port: uint16(firstPort + i)}
	if g.ways == byAddress {
		t.Address = addressOf(i)
	}
	endpoint := []route.Endpoint{{Address: g.to.Addr(), Port: g.to.Port()}}
	refused, err := g.state.SetTenant(t, route.Backends{route.PortAPIServer: endpoint, route.PortKonnectivity: endpoint})
	if err == nil && len(refused) > 0 {
		err = fmt.Errorf("tenant %d: the routes %v are taken", i, refused)
	}
	return err
}

// remove takes tenant i away.
func (g *gateway) remove(i int) error {
	return g.state.RemoveTenant("tenants", fmt.Sprintf("tenant-%d", i))
}

// startGateway runs kamaji-gateway with one thread of work, and a control plane that knows as many tenants.
func (b *bench) startGateway(tenants int, by ways) (*gateway, error) {
	g := &gateway{
		route: route.Gateway{
			Name: "bench", PublicAddress: netip.MustParseAddr("127.0.0.2"), PrivateAddress: netip.MustParseAddr("127.0.0.3"), Port: port,
		},
		state: server.NewState(), to: b.backend, ways: by,
	}
	if by == byAddress {
		g.route.PrivatePrefix, g.route.AddressesOnly = tenantNetwork, true
	}
	if err := g.state.SetGateway(g.route); err != nil {
		return nil, err
	}
	for i := range tenants {
		if err := g.set(i); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp(b.dir, ours)
	if err != nil {
		return nil, err
	}
	xds, stopServer, err := serveXDS(b.ctx, g, dir)
	if err != nil {
		return nil, err
	}
	config := bootstrap.Config{
		Node: bootstrap.Node{Gateway: g.route.Name, Instance: "bench"},
		XDS: bootstrap.XDS{
			Address: xds, ServerName: serverName, CAFile: filepath.Join(dir, "ca.crt"),
			CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"),
		},
		HealthAddress: "127.0.0.2:0", HandoverSocket: filepath.Join(dir, "handover"), StateDir: dir,
	}
	data, err := config.Marshal()
	if err != nil {
		return nil, errors.Join(err, stopServer())
	}
	g.file = filepath.Join(dir, "bootstrap.yaml")
	if err := os.WriteFile(g.file, data, 0o600); err != nil {
		return nil, errors.Join(err, stopServer())
	}
	if g.process, err = start(dir, ours, []string{"GOMAXPROCS=1"}, b.program, "run", "--bootstrap", g.file); err != nil {
		return nil, errors.Join(err, stopServer())
	}
	g.stop = func() { g.process.stop(); _ = stopServer() }
	return g, nil
}

// serveXDS serves the state of g and returns the address.
func serveXDS(ctx context.Context, g *gateway, dir string) (string, func() error, error) {
	ca, key, err := certificate(dir, "ca.crt", "", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	if err != nil {
		return "", nil, err
	}
	identity, err := url.Parse(route.Identity(g.route.Name))
	if err != nil {
		return "", nil, err
	}
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	// One certificate for both sides.
	if _, _, err := certificate(dir, "tls.crt", "tls.key", &x509.Certificate{
		DNSNames: []string{serverName}, URIs: []*url.URL{identity}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: usage,
	}, ca, key); err != nil {
		return "", nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- (&server.Server{State: g.state, TLS: server.TLSFilesIn(dir)}).Serve(ctx, l) }()
	return l.Addr().String(), func() error { cancel(); return <-done }, nil
}

// certificate makes one, signed by parent or by itself, and writes it to dir.
func certificate(dir, certFile, keyFile string, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, certFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return nil, nil, err
	}
	if keyFile == "" {
		return cert, key, nil
	}
	encoded, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return cert, key, os.WriteFile(filepath.Join(dir, keyFile), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}), 0o600)
}

// poll tries until it works, for as long as there is patience.
func poll(ctx context.Context, what string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, err)
		case <-tick.C:
		}
	}
}
