// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

const (
	konnectivityServers = 3
	konnectivityAgents  = 50
	agentAccount        = "konnectivity-agent"
	agentAudience       = "system:konnectivity-server"
)

// Each of many real konnectivity agents, which prove who they are with tokens, has a tunnel to each of three real servers after three
// dials, dials no more while nothing changes, and needs one dial more when a server is replaced. Each dial is one TokenReview.
func TestAgentsNeedADialPerServer(t *testing.T) {
	programs, err := binaries.Build(t.Context(), progress.New(t.Output()), "konnectivity")
	must(t, err)
	w := newWorld(t)
	startEmbedded(t, w)
	k := newKonnectivity(t, w.newCluster(t, startEtcd(t), "c1"), programs)
	for range konnectivityServers {
		k.serve(t)
	}
	for range konnectivityAgents {
		k.join(t)
	}
	k.connected(t, 0, 1, 2)
	k.cost(t, "joined", 3)

	// An agent more has its tunnels some of its intervals later, which are as long as those of the others.
	k.join(t)
	k.connected(t, 0, 1, 2)
	k.cost(t, "an agent more joined", 3)

	fourth := k.serve(t)
	k.c.tunnels[0].Draining = true
	k.c.publish(t)
	newcomer := k.join(t)
	until(t, "the gateway knows the fourth server", func() bool { return tunnels(t, k.metrics[fourth]) == 1 })
	until(t, "the newcomer has its tunnels", func() bool { return newcomer.dials.Load() >= konnectivityServers })
	killed := time.Now()
	k.servers[0].stop(t)
	k.c.tunnels = k.c.tunnels[1:]
	k.c.publish(t)
	k.connected(t, 1, 2, fourth)
	t.Logf("%d agents were back after %s", len(k.nodes), time.Since(killed).Round(time.Millisecond))
	newcomer.dials.Add(1) // which had no tunnel to the first server
	k.reviews++
	k.cost(t, "a server was replaced", 4)
}

// konnectivity is the servers and agents of one tenant.
type konnectivity struct {
	c        *cluster
	programs binaries.Set
	// api is the port of the tenant's API server, token what agents show.
	api     uint16
	token   string
	servers []*program
	// metrics has by server where its metrics are.
	metrics []string
	nodes   []*node
	// reviews are TokenReviews that are taken for made.
	reviews int
}

func newKonnectivity(t *testing.T, c *cluster, programs binaries.Set) *konnectivity {
	t.Helper()
	k := &konnectivity{c: c, programs: programs, api: c.serve(t), token: filepath.Join(t.TempDir(), "token")}
	accounts := c.admin(t, k.api).CoreV1().ServiceAccounts(metav1.NamespaceSystem)
	until(t, "the account of agents is there", func() bool {
		_, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: agentAccount}}, metav1.CreateOptions{})
		return err == nil || apierrors.IsAlreadyExists(err)
	})
	token, err := accounts.CreateToken(t.Context(), agentAccount, &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{agentAudience}}}, metav1.CreateOptions{})
	must(t, err)
	must(t, os.WriteFile(k.token, []byte(token.Status.Token), 0o600))
	return k
}

// serve starts a server more, and has the gateway know it. It returns its number.
func (k *konnectivity) serve(t *testing.T) int {
	t.Helper()
	agents, admin, probe := freePort(t), freePort(t), freePort(t)
	number := len(k.servers)
	k.servers = append(k.servers, start(t, k.programs.Path("proxy-server"), "--mode=grpc", "--uds-name="+filepath.Join(k.c.dir, fmt.Sprintf("%d.sock", number)), "--server-port=0",
		"--delete-existing-uds-file", "--cluster-cert="+filepath.Join(k.c.dir, "apiserver.crt"), "--cluster-key="+filepath.Join(k.c.dir, "apiserver.key"),
		"--agent-namespace="+metav1.NamespaceSystem, "--agent-service-account="+agentAccount, "--authentication-audience="+agentAudience, "--kubeconfig="+k.c.kubeconfig(t, k.api),
		"--agent-bind-address=127.0.0.1", "--agent-port="+text(agents), "--admin-bind-address=127.0.0.1", "--admin-port="+text(admin),
		"--health-bind-address=127.0.0.1", "--health-port="+text(probe), fmt.Sprintf("--server-id=server-%d", number), fmt.Sprintf("--server-count=%d", konnectivityServers),
		"--keepalive-time=30s"))
	k.metrics = append(k.metrics, "http://127.0.0.1:"+text(admin)+"/metrics")
	until(t, "a konnectivity server answers", func() bool {
		resp, err := http.Get("http://127.0.0.1:" + text(probe) + "/healthz")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	k.c.tunnels = append(k.c.tunnels, route.Endpoint{Address: netip.MustParseAddr("127.0.0.1"), Port: agents})
	k.c.publish(t)
	return number
}

// join starts an agent more, on a node of its own.
func (k *konnectivity) join(t *testing.T) *node {
	t.Helper()
	number := len(k.nodes)
	n := newNode(t, netip.AddrFrom4([4]byte{127, 7, byte(number), 1}), k.c.w.own(k.c.Tenant))
	k.nodes = append(k.nodes, n)
	start(t, k.programs.Path("proxy-agent"), "--proxy-server-host=127.0.0.3", "--proxy-server-port="+text(n.port()), "--alpn-proto="+route.ALPNKonnectivity,
		"--ca-cert="+filepath.Join(k.c.dir, "ca.crt"), "--service-account-token-path="+k.token,
		fmt.Sprintf("--agent-id=agent-%d", number), "--health-server-port="+text(freePort(t)), "--admin-server-port="+text(freePort(t)), "--sync-interval=200ms", "--sync-interval-cap=500ms", "--keepalive-time=30s")
	return n
}

// connected waits until every agent has a tunnel to each of the servers.
func (k *konnectivity) connected(t *testing.T, servers ...int) {
	t.Helper()
	for _, s := range servers {
		until(t, fmt.Sprintf("server %d has every agent", s), func() bool { return tunnels(t, k.metrics[s]) == len(k.nodes) })
	}
}

// cost compares what was needed so far with dials of each agent, and a TokenReview for each.
func (k *konnectivity) cost(t *testing.T, when string, dials int64) {
	t.Helper()
	for i, n := range k.nodes {
		if got := n.dials.Load(); got != dials {
			t.Errorf("%s: agent %d needed %d dials, want %d", when, i, got, dials)
		}
	}
	reviews := k.reviews
	for line := range strings.Lines(k.c.metrics(t, k.api)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && strings.HasPrefix(name, "apiserver_request_total{") && strings.Contains(name, `resource="tokenreviews"`) {
			n, err := strconv.Atoi(value)
			must(t, err)
			reviews += n
		}
	}
	if want := int(dials) * len(k.nodes); reviews != want {
		t.Errorf("%s: %d TokenReviews, want %d", when, reviews, want)
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
