// SPDX-License-Identifier: Apache-2.0

// Package gateway tests data planes from outside: what every one of them has to do, that Envoy's resources lead where the embedded
// data plane leads, and with real clients and servers that tenants and their workers get what they need.
package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds/server"
)

// xdsName is in the certificate of the control plane.
const xdsName = "kamaji-xds.kamaji-system.svc"

// until waits for something that another process or goroutine does; it fails the test when that does not happen at all.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
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

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// authority is a certificate authority.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

func (a *authority) sign(t testing.TB, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	must(t, err)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert, key
}

// issue makes a certificate for both sides of TLS.
func (a *authority) issue(t testing.TB, subject pkix.Name, names []string, addresses []net.IP, uri string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		Subject: subject, DNSNames: names, IPAddresses: addresses, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if uri != "" {
		u, err := url.Parse(uri)
		must(t, err)
		template.URIs = []*url.URL{u}
	}
	cert, key := a.sign(t, template)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// pair is a certificate and its key in PEM.
func pair(t testing.TB, cert tls.Certificate) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key})
}

// write stores the CA and cert as a Secret of cert-manager is mounted.
func (a *authority) write(t testing.TB, dir string, cert tls.Certificate) {
	t.Helper()
	certPEM, keyPEM := pair(t, cert)
	for name, data := range map[string][]byte{"ca.crt": a.pem(), "tls.crt": certPEM, "tls.key": keyPEM} {
		must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
}

// world is a gateway on loopback addresses with its control plane, and no data plane yet.
type world struct {
	gateway route.Gateway
	state   *server.State
	ca      *authority
	// certs is the folder with the data plane's certificate.
	certs string
	// xds is where the control plane listens.
	xds string
	// tenants is how many have an address of their own.
	tenants int
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{ca: newAuthority(t, "xds"), state: server.NewState(), certs: t.TempDir()}
	w.gateway = route.Gateway{
		Name: "default", PublicAddress: netip.MustParseAddr("127.0.0.2"), PrivateAddress: netip.MustParseAddr("127.0.0.3"), Port: freePort(t),
		PrivatePrefix: netip.MustParsePrefix("127.99.0.0/16"),
	}
	must(t, w.state.SetGateway(w.gateway))
	w.ca.write(t, w.certs, w.ca.issue(t, pkix.Name{}, nil, nil, route.Identity(w.gateway.Name)))
	serverCerts := t.TempDir()
	w.ca.write(t, serverCerts, w.ca.issue(t, pkix.Name{}, []string{xdsName}, nil, ""))
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w.xds = lis.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- (&server.Server{State: w.state, TLS: server.TLSFilesIn(serverCerts)}).Serve(ctx, lis) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("control plane: %v", err)
		}
	})
	return w
}

// set serves a tenant, which must conflict with no other.
func (w *world) set(t testing.TB, tenant route.Tenant, backends route.Backends) {
	t.Helper()
	mine := route.Backends{} // the state keeps what it is given
	for port, endpoints := range backends {
		mine[port] = slices.Clone(endpoints)
	}
	refused, err := w.state.SetTenant(tenant, mine)
	must(t, err)
	if len(refused) > 0 {
		t.Fatalf("refused: %v", refused)
	}
}

func (w *world) public() netip.AddrPort {
	return netip.AddrPortFrom(w.gateway.PublicAddress, w.gateway.Port)
}

func (w *world) private() netip.AddrPort {
	return netip.AddrPortFrom(w.gateway.PrivateAddress, w.gateway.Port)
}

func (w *world) own(tenant route.Tenant) netip.AddrPort {
	return netip.AddrPortFrom(w.gateway.PrivateAddress, tenant.Port)
}

func (w *world) address(tenant route.Tenant) netip.AddrPort {
	return netip.AddrPortFrom(tenant.Address, w.gateway.Port)
}

// nextAddress is the address of the next tenant.
func (w *world) nextAddress() netip.Addr {
	w.tenants++
	return addressOf(w.tenants - 1)
}

// addressOf is the address of the tenant with a number.
func addressOf(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 99, 1, byte(1 + i)}) }

// given are the ports that freePort returned: one is used on several addresses.
var given sync.Map

// freePort is a port below those that the kernel gives to outgoing connections: one of these, on whatever address, could keep the
// listener of a network, which has the wildcard address, from its port.
func freePort(t testing.TB) uint16 {
	t.Helper()
	const first, last = 15000, 31999
	for {
		port := uint16(first + mathrand.IntN(last-first))
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("0.0.0.0", strconv.Itoa(int(port))))
		if err != nil {
			continue
		}
		_ = l.Close()
		return port
	}
}
