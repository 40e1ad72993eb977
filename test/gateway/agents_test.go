// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

const (
	konnectivityServers = 3
	konnectivityAgents  = 50
)

// Each of many real konnectivity agents has a tunnel to each of three real servers after three dials, and dials no more.
func TestAgentsNeedADialPerServer(t *testing.T) {
	programs, err := binaries.Build(t.Context(), progress.New(t.Output()), "konnectivity")
	must(t, err)
	w := newWorld(t)
	tenant := route.Tenant{Namespace: "tenants", Name: "c1", Gateway: w.gateway.Name, Hostname: "c1.k8s.example.com", Port: freePort(t)}
	ca := newAuthority(t, "kubernetes")
	dir := t.TempDir()
	// Agents trust the tenant's authority, and here show a certificate of it in place of a token.
	ca.write(t, dir, ca.issue(t, pkix.Name{CommonName: "konnectivity"}, []string{tenant.Hostname, "localhost"}, []net.IP{net.ParseIP("127.0.0.3")}, ""))
	var endpoints []route.Endpoint
	var health []string
	for i := range konnectivityServers {
		agents, admin, probe := freePort(t), freePort(t), freePort(t)
		start(t, programs.Path("proxy-server"), "--mode=grpc", "--uds-name="+filepath.Join(dir, fmt.Sprintf("%d.sock", i)), "--server-port=0", "--delete-existing-uds-file",
			"--cluster-cert="+filepath.Join(dir, "tls.crt"), "--cluster-key="+filepath.Join(dir, "tls.key"), "--cluster-ca-cert="+filepath.Join(dir, "ca.crt"),
			"--agent-bind-address=127.0.0.1", "--agent-port="+text(agents), "--admin-bind-address=127.0.0.1", "--admin-port="+text(admin),
			"--health-bind-address=127.0.0.1", "--health-port="+text(probe), fmt.Sprintf("--server-id=server-%d", i), fmt.Sprintf("--server-count=%d", konnectivityServers),
			"--keepalive-time=30s")
		endpoints = append(endpoints, route.Endpoint{Address: netip.MustParseAddr("127.0.0.1"), Port: agents})
		health = append(health, "http://127.0.0.1:"+text(admin)+"/metrics")
		until(t, "a konnectivity server answers", func() bool {
			resp, err := http.Get("http://127.0.0.1:" + text(probe) + "/healthz")
			if err != nil {
				return false
			}
			return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
		})
	}
	w.set(t, tenant, route.Backends{route.PortKonnectivity: endpoints})
	startEmbedded(t, w)
	nodes := make([]*node, konnectivityAgents)
	for i := range nodes {
		nodes[i] = newNode(t, netip.AddrFrom4([4]byte{127, 7, byte(i), 1}), w.own(tenant))
		start(t, programs.Path("proxy-agent"), "--proxy-server-host=127.0.0.3", "--proxy-server-port="+text(nodes[i].port()), "--alpn-proto="+route.ALPNKonnectivity,
			"--ca-cert="+filepath.Join(dir, "ca.crt"), "--agent-cert="+filepath.Join(dir, "tls.crt"), "--agent-key="+filepath.Join(dir, "tls.key"),
			fmt.Sprintf("--agent-id=agent-%d", i), "--health-server-port="+text(freePort(t)), "--admin-server-port="+text(freePort(t)), "--sync-interval=200ms", "--sync-interval-cap=500ms", "--keepalive-time=30s")
	}
	for i, url := range health {
		until(t, fmt.Sprintf("server %d has every agent", i), func() bool { return tunnels(t, url) == konnectivityAgents })
	}
	for i, n := range nodes {
		if got := n.dials.Load(); got != konnectivityServers {
			t.Errorf("agent %d needed %d dials for %d servers", i, got, konnectivityServers)
		}
	}
}

func text(port uint16) string { return strconv.Itoa(int(port)) }

// tunnels is how many agents a server says it has.
func tunnels(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		return 0
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "konnectivity_network_proxy_server_ready_backend_connections "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			must(t, err)
			return n
		}
	}
	return 0
}

// node is where an agent runs: its connections leave from an address of its own, and are counted.
type node struct {
	net.Listener
	dials atomic.Int64
}

func newNode(t *testing.T, address netip.Addr, gateway netip.AddrPort) *node {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.3:0")
	must(t, err)
	n := &node{Listener: l}
	t.Cleanup(func() { _ = l.Close() })
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(address, 0))}
	go func() {
		for {
			agent, err := l.Accept()
			if err != nil {
				return
			}
			n.dials.Add(1)
			go func() {
				defer func() { _ = agent.Close() }()
				out, err := dialer.Dial("tcp", gateway.String())
				if err != nil {
					return
				}
				defer func() { _ = out.Close() }()
				go func() { _, _ = io.Copy(out, agent); _ = out.Close() }()
				_, _ = io.Copy(agent, out)
			}()
		}
	}()
	return n
}

func (n *node) port() uint16 { return n.Addr().(*net.TCPAddr).AddrPort().Port() }
