// SPDX-License-Identifier: Apache-2.0

package server

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
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/util/wait"
)

const serverName = "kamaji-xds.kamaji-system.svc"

// authority is a certificate authority for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	n    int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "xds-ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert: cert, key: key, pool: pool, n: 1}
}

// issue returns a certificate and key in PEM, for servers (dns) or clients (uri).
func (a *authority) issue(t testing.TB, dns, uri string) (certPEM, keyPEM []byte) {
	t.Helper()
	return a.issueUntil(t, dns, uri, time.Now().Add(time.Hour))
}

func (a *authority) issueUntil(t testing.TB, dns, uri string, until time.Time) (certPEM, keyPEM []byte) {
	t.Helper()
	a.n++
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.n), NotBefore: until.Add(-2 * time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if dns != "" {
		template.DNSNames, template.ExtKeyUsage = []string{dns}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	} else {
		u, err := url.Parse(uri)
		must(t, err)
		template.URIs, template.ExtKeyUsage = []*url.URL{u}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	must(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

// start serves state and returns where.
func start(t testing.TB, ca *authority, state *State) string {
	t.Helper()
	dir := t.TempDir()
	files := TLSFilesIn(dir)
	cert, key := ca.issue(t, serverName, "")
	for path, data := range map[string][]byte{
		files.Cert: cert, files.Key: key, files.CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}),
	} {
		must(t, os.WriteFile(filepath.Clean(path), data, 0o600))
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- (&Server{State: state, TLS: files}).Serve(ctx, lis) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	return lis.Addr().String()
}

// follower is a data plane with a delta ADS stream.
type follower struct {
	t      testing.TB
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
}

func dial(t testing.TB, address string, roots *x509.CertPool, cert, key []byte) *follower {
	t.Helper()
	return dialWhen(t, address, roots, cert, key, false)
}

// dialWhen waits, if asked to, until somebody listens.
func dialWhen(t testing.TB, address string, roots *x509.CertPool, cert, key []byte, wait bool) *follower {
	t.Helper()
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: serverName}
	if cert != nil {
		pair, err := tls.X509KeyPair(cert, key)
		must(t, err)
		config.Certificates = []tls.Certificate{pair}
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithDefaultCallOptions(grpc.WaitForReady(wait)))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		// A refused handshake may show here or at the first message.
		return &follower{t: t, stream: failed{err: err}}
	}
	return &follower{t: t, stream: stream}
}

// failed is a stream that never opened.
type failed struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	err error
}

func (f failed) Send(*discoveryv3.DeltaDiscoveryRequest) error { return f.err }

func (f failed) Recv() (*discoveryv3.DeltaDiscoveryResponse, error) { return nil, f.err }

// subscribe asks for a type, "*" for all of it.
func (c *follower) subscribe(node, typeURL string, names []string, known map[string]string) {
	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: names, InitialResourceVersions: known}
	if node != "" {
		req.Node = &corev3.Node{Id: node}
	}
	// An error of the stream is reported by the next recv.
	_ = c.stream.Send(req)
}

// recv returns the next response and acknowledges it.
func (c *follower) recv() *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	resp, err := c.stream.Recv()
	if err != nil {
		c.t.Fatalf("receiving: %v", err)
	}
	must(c.t, c.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()}))
	return resp
}

func names(resp *discoveryv3.DeltaDiscoveryResponse) []string {
	var out []string
	for _, r := range resp.GetResources() {
		out = append(out, r.GetName())
	}
	slices.Sort(out)
	return out
}

func TestDataPlaneFollows(t *testing.T) {
	ca, state := newAuthority(t), NewState()
	must(t, state.SetGateway(testGateway))
	set(t, state, testTenant("a", "c1", 20001), apiserver("10.244.0.1"))
	address := start(t, ca, state)
	cert, key := ca.issue(t, "", "spiffe://kamaji/gateway/default")
	c := dial(t, address, ca.pool, cert, key)

	c.subscribe("default/node-1", resourcev3.ListenerType, []string{"*"}, nil)
	if diff := cmp.Diff([]string{"private", "public"}, names(c.recv())); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
	c.subscribe("", resourcev3.ClusterType, []string{"*"}, nil)
	first := c.recv()
	if got := len(first.GetResources()); got != 6 {
		t.Errorf("clusters: got %d, want 6", got)
	}
	c.subscribe("", resourcev3.EndpointType, []string{"a/c1/kube-apiserver"}, nil)
	if diff := cmp.Diff([]string{"a/c1/kube-apiserver"}, names(c.recv())); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}

	// Another backend: only the one assignment is sent.
	set(t, state, testTenant("a", "c1", 20001), apiserver("10.244.0.1", "10.244.0.2"))
	resp := c.recv()
	assignment := &endpointv3.ClusterLoadAssignment{}
	must(t, resp.GetResources()[0].GetResource().UnmarshalTo(assignment))
	if got := len(assignment.GetEndpoints()[0].GetLbEndpoints()); got != 2 || len(resp.GetResources()) != 1 {
		t.Errorf("after a new backend: got %d endpoints in %d resources, want 2 in 1", got, len(resp.GetResources()))
	}

	// Another tenant: exactly its clusters, and no listener.
	set(t, state, testTenant("a", "c2", 20002), nil)
	resp = c.recv()
	if got := len(resp.GetResources()); resp.GetTypeUrl() != resourcev3.ClusterType || got != 6 {
		t.Errorf("after a new tenant: got %d resources of %s, want its 6 clusters", got, resp.GetTypeUrl())
	}

	// A tenant gone: its clusters are removed.
	must(t, state.RemoveTenant("a", "c2"))
	resp = c.recv()
	if got := len(resp.GetRemovedResources()); resp.GetTypeUrl() != resourcev3.ClusterType || got != 6 {
		t.Errorf("after a tenant is gone: got %d removals of %s, want its 6 clusters", got, resp.GetTypeUrl())
	}
}

// A data plane that comes back, maybe to another replica, is sent what changed while it was away, and nothing else.
func TestReconnectSendsDifferences(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue(t, "", "spiffe://kamaji/gateway/default")
	replica := func(tenants ...string) string {
		state := NewState()
		must(t, state.SetGateway(testGateway))
		for i, name := range tenants {
			set(t, state, testTenant("a", name, uint16(20001+i)), nil)
		}
		return start(t, ca, state)
	}
	c := dial(t, replica("c1", "gone"), ca.pool, cert, key)
	c.subscribe("default/node-1", resourcev3.ClusterType, []string{"*"}, nil)
	known := map[string]string{}
	for _, r := range c.recv().GetResources() {
		known[r.GetName()] = r.GetVersion()
	}
	if len(known) != 12 {
		t.Fatalf("got %d clusters, want 12", len(known))
	}
	c = dial(t, replica("c1"), ca.pool, cert, key)
	c.subscribe("default/node-1", resourcev3.ClusterType, []string{"*"}, known)
	resp := c.recv()
	if len(resp.GetResources()) != 0 || len(resp.GetRemovedResources()) != 6 {
		t.Errorf("got %v, removed %v; want only the removal of one tenant's 6 clusters", names(resp), resp.GetRemovedResources())
	}
}

func TestRefused(t *testing.T) {
	ca, stranger, state := newAuthority(t), newAuthority(t), NewState()
	must(t, state.SetGateway(testGateway))
	other := testGateway
	other.Name = "other"
	must(t, state.SetGateway(other))
	address := start(t, ca, state)
	for _, tc := range []struct {
		name, identity, node string
		issuer               *authority
		want                 codes.Code
	}{
		{name: "another gateway's certificate", identity: "spiffe://kamaji/gateway/other", node: "default/node-1", issuer: ca, want: codes.PermissionDenied},
		{name: "node.id of no gateway", identity: "spiffe://kamaji/gateway/default", node: "/node-1", issuer: ca, want: codes.InvalidArgument},
		{name: "gateway that doesn't exist", identity: "spiffe://kamaji/gateway/gone", node: "gone/node-1", issuer: ca, want: codes.NotFound},
		{name: "certificate for something else", identity: "spiffe://kamaji/manager/default", node: "default/node-1", issuer: ca, want: codes.PermissionDenied},
		{name: "certificate of another authority", identity: "spiffe://kamaji/gateway/default", node: "default/node-1", issuer: stranger, want: codes.Unavailable},
		{name: "no certificate", node: "default/node-1", want: codes.Unavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var cert, key []byte
			if tc.issuer != nil {
				cert, key = tc.issuer.issue(t, "", tc.identity)
			}
			c := dial(t, address, ca.pool, cert, key)
			c.subscribe(tc.node, resourcev3.ClusterType, []string{"*"}, nil)
			resp, err := c.stream.Recv()
			if got := status.Code(err); got != tc.want {
				t.Errorf("got %v (%v, response %v), want %v", got, err, resp, tc.want)
			}
		})
	}
}

// An expired certificate is refused, and whoever looks at the managers learns of it.
func TestExpiredCertificate(t *testing.T) {
	ca, state := newAuthority(t), NewState()
	must(t, state.SetGateway(testGateway))
	address := start(t, ca, state)
	count := func(reason string) float64 { return testutil.ToFloat64(refusals.WithLabelValues(reason)) }
	before := count(expired)
	cert, key := ca.issueUntil(t, "", "spiffe://kamaji/gateway/default", time.Now().Add(-time.Minute))
	c := dial(t, address, ca.pool, cert, key)
	c.subscribe("default/node-1", resourcev3.ClusterType, []string{"*"}, nil)
	if resp, err := c.stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, %v, want Unavailable", resp, err)
	}
	// The client knows before the server has counted.
	counted := func(context.Context) (bool, error) { return count(expired) > before, nil }
	if err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, time.Minute, true, counted); err != nil {
		t.Errorf("%v refusals are counted, %v before", count(expired), before)
	}
	before = count(stranger)
	cert, key = ca.issue(t, "", "spiffe://kamaji/gateway/default")
	c = dial(t, address, ca.pool, cert, key)
	c.subscribe("other/node-1", resourcev3.ClusterType, []string{"*"}, nil)
	if resp, err := c.stream.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v, %v, want PermissionDenied", resp, err)
	}
	if got := count(stranger); got != before+1 {
		t.Errorf("%v strangers are counted, %v before", got, before)
	}
}

func TestGatewayRemoved(t *testing.T) {
	ca, state := newAuthority(t), NewState()
	must(t, state.SetGateway(testGateway))
	address := start(t, ca, state)
	cert, key := ca.issue(t, "", "spiffe://kamaji/gateway/default")
	c := dial(t, address, ca.pool, cert, key)
	c.subscribe("default/node-1", resourcev3.ListenerType, []string{"*"}, nil)
	c.recv()
	state.RemoveGateway("default")
	removed := c.recv().GetRemovedResources()
	slices.Sort(removed)
	if diff := cmp.Diff([]string{"private", "public"}, removed); diff != "" {
		t.Errorf("removed listeners (-want +got):\n%s", diff)
	}
	late := dial(t, address, ca.pool, cert, key)
	late.subscribe("default/node-1", resourcev3.ListenerType, []string{"*"}, nil)
	if _, err := late.stream.Recv(); status.Code(err) != codes.NotFound {
		t.Errorf("connecting for a gateway that is gone: got %v, want NotFound", err)
	}
}
