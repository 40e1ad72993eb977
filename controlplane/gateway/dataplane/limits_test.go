// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

// logged returns the first line of the access log with that reason, when there is one.
func (w *world) logged(reason string) map[string]any {
	for _, line := range w.accessLog.all() {
		fields := map[string]any{}
		if json.Unmarshal([]byte(line), &fields) == nil && fields["reason"] == reason {
			return fields
		}
	}
	return nil
}

func TestWhoMayConnect(t *testing.T) {
	w := newWorld(t)
	a, b := w.newTenant(t, "a"), w.newTenant(t, "b")
	g, _ := w.start(t, a, b)
	kept := a.must(t, w.public(), a.Hostname)

	a.Public.Sources = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	w.set(t, a)
	until(t, "strangers are refused", func() bool {
		_, _, err := a.dial(t, w.public(), a.Hostname)
		return err != nil && strings.Contains(err.Error(), "access denied")
	})
	if !kept.alive() {
		t.Error("an open connection was cut by the change")
	}
	a.must(t, w.private(), a.Hostname)
	b.must(t, w.public(), b.Hostname)
	until(t, "it is logged", func() bool { return w.logged("source_refused") != nil })
	if got := w.logged("source_refused"); got["route"] != "public|sni|"+a.Hostname || got["sni"] != a.Hostname {
		t.Errorf("logged %v", got)
	}
	if _, metrics := get(t, g, "/metrics"); !strings.Contains(metrics, `kamaji_gateway_tenant_refused_total{tenant="tenants/a"} `) ||
		strings.Contains(metrics, `kamaji_gateway_tenant_refused_total{tenant="tenants/a"} 0`) {
		t.Error("it is not counted")
	}

	a.Public.Sources = append(a.Public.Sources, netip.MustParsePrefix("127.0.0.0/8"))
	w.set(t, a)
	until(t, "the source is let in", func() bool { _, _, err := a.dial(t, w.public(), a.Hostname); return err == nil })
}

// The limit is one for all ways to the tenant on that side.
func TestConnectionLimitOfATenant(t *testing.T) {
	w := newWorld(t)
	a, b := w.newTenant(t, "a"), w.newTenant(t, "b")
	a.Public.MaxConnections, a.Private.MaxConnections = 2, 2
	w.set(t, a)
	g, _ := w.start(t, a, b)
	a.must(t, w.own(a), inCluster)
	a.must(t, w.private(), a.Hostname, route.ALPNKonnectivity, "h2")
	if _, _, err := a.dial(t, w.private(), a.Hostname); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("the third of two connections on the private side: %v", err)
	}
	first, _ := a.must(t, w.public(), a.Hostname), a.must(t, w.public(), a.AdditionalHostnames[0])
	if _, _, err := a.dial(t, w.public(), a.Hostname); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("the third of two connections: %v", err)
	}
	b.must(t, w.public(), b.Hostname)
	_ = first.Close()
	until(t, "there is room again", func() bool { _, _, err := a.dial(t, w.public(), a.Hostname); return err == nil })
	until(t, "it is logged", func() bool { return w.logged("tenant_limit") != nil })
	if got := w.logged("tenant_limit"); got["route"] != "private|sni|"+a.Hostname {
		t.Errorf("logged %v", got)
	}
	if _, metrics := get(t, g, "/metrics"); strings.Contains(metrics, `kamaji_gateway_tenant_refused_total{tenant="tenants/a"} 0`) {
		t.Error("it is not counted")
	}
}

func TestOwnAddresses(t *testing.T) {
	w := newWorld(t)
	w.gateway.PrivatePrefix = netip.MustParsePrefix("127.1.0.0/16")
	if err := w.state.SetGateway(w.gateway); err != nil {
		t.Fatal(err)
	}
	a, b := w.newTenant(t, "a"), w.newTenant(t, "b")
	a.Address, b.Address = netip.MustParseAddr("127.1.0.7"), netip.MustParseAddr("127.1.3.4")
	w.set(t, a)
	w.set(t, b)
	g, _ := w.run(t)
	until(t, "the routes arrive", func() bool { return g.configured.Load() && g.routes.Len() == 2*(routesPerTenant+2) })
	at := func(ip string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(ip), w.gateway.Port) }
	for _, n := range []*tenant{a, b} {
		for _, alpn := range []string{"h2", route.ALPNKonnectivity} {
			_, greeting, err := n.dial(t, at(n.Address.String()), inCluster, alpn, "h2")
			want := map[string]string{"h2": "apiserver", route.ALPNKonnectivity: "konnectivity"}[alpn]
			if err != nil || !strings.HasPrefix(greeting, n.Name+" "+want) {
				t.Errorf("%s by its address with ALPN %s: %q, %v", n.Name, alpn, greeting, err)
			}
		}
	}
	for _, ip := range []string{"127.1.0.8", "127.0.0.9"} { // one of nobody, and one outside
		if _, _, err := a.dial(t, at(ip), a.Hostname); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("%s: %v", ip, err)
		}
	}
	a.must(t, w.private(), a.Hostname) // the listeners with an address of their own come first

	open := b.must(t, at(b.Address.String()), inCluster)
	w.gateway.PrivatePrefix = netip.MustParsePrefix("127.1.0.0/24")
	if err := w.state.SetGateway(w.gateway); err != nil {
		t.Fatal(err)
	}
	until(t, "the network shrinks", func() bool {
		_, _, err := b.dial(t, at(b.Address.String()), inCluster)
		return err != nil && strings.Contains(err.Error(), "unrecognized name")
	})
	if !open.alive() {
		t.Error("an open connection was cut by the change")
	}
}

func TestClientsBehindALoadBalancer(t *testing.T) {
	w := newWorld(t)
	w.config.ProxyProtocol.From = []string{"127.0.0.0/8"}
	n := w.newTenant(t, "a")
	n.Public.Sources = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	w.set(t, n)
	w.start(t, n)
	through := func(client string) error {
		c, err := net.Dial("tcp", w.public().String())
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		if _, err := io.WriteString(c, "PROXY TCP4 "+client+" 203.0.113.1 40000 6443\r\n"); err != nil {
			return err
		}
		return n.handshake(c)
	}
	if err := through("198.51.100.7"); err != nil {
		t.Errorf("a client that may connect: %v", err)
	}
	if err := through("192.0.2.7"); err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("a client that may not: %v", err)
	}
	until(t, "both are logged", func() bool { return w.logged("source_refused") != nil && len(w.accessLog.all()) >= 2 })
	if got := w.logged("source_refused"); got["client"] != "192.0.2.7:40000" || got["via"] != "127.0.0.1" {
		t.Errorf("logged %v", got)
	}
}

// TestTheControlPlaneSetsLimits: limits and load balancers of a gateway change under an open connection, and count for the next one;
// what the file says counts instead.
func TestTheControlPlaneSetsLimits(t *testing.T) {
	w := newWorld(t)
	w.config.Limits.PendingConnections, w.config.MetricsAddress = 123, "127.0.0.1:0"
	n := w.newTenant(t, "a")
	g, _ := w.start(t, n)
	kept := n.must(t, w.public(), n.Hostname)
	limit := func() float64 { return scrape(t, g)["kamaji_gateway_connections_limit"] }
	unlimited := limit()
	w.gateway.Limits = route.Limits{Connections: 100, PendingConnections: 7}
	w.gateway.PublicProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	if err := w.state.SetGateway(w.gateway); err != nil {
		t.Fatal(err)
	}
	until(t, "the limit is lower", func() bool { return limit() == 100 })
	if got := limits(w.config.Limits, w.gateway.Limits); got.MaxConnections != 100 || got.MaxPending != 123 {
		t.Errorf("limits in effect are %+v", got)
	}
	if _, _, err := n.dial(t, w.public(), n.Hostname); err == nil {
		t.Error("a load balancer without a header is believed")
	}
	n.must(t, w.private(), n.Hostname)
	w.gateway.Limits, w.gateway.PublicProxies = route.Limits{}, nil
	if err := w.state.SetGateway(w.gateway); err != nil {
		t.Fatal(err)
	}
	until(t, "the limit is the old one", func() bool { return limit() == unlimited })
	n.must(t, w.public(), n.Hostname)
	if !kept.alive() {
		t.Error("an open connection was cut by a change")
	}
}

// TestMetricsOfTenants: bytes are counted while the connection lives, and tenants beyond the bound are counted together.
func TestMetricsOfTenants(t *testing.T) {
	w := newWorld(t)
	one := 1
	w.config.MetricsTenants = &one
	w.config.MetricsAddress = "127.0.0.1:0"
	a, b := w.newTenant(t, "a"), w.newTenant(t, "b")
	g, _ := w.start(t, a, b)
	if status, _ := get(t, g, "/metrics"); status != 404 {
		t.Errorf("the health port answers %d for metrics that have a port of their own", status)
	}
	ca := a.must(t, w.public(), a.Hostname)
	_ = scrape(t, g) // a is the first
	b.must(t, w.public(), b.Hostname)
	m := scrape(t, g)
	for name, want := range map[string]float64{
		`kamaji_gateway_tenant_connections_active{tenant="tenants/a"}`: 1, `kamaji_gateway_tenant_connections_total{tenant="tenants/a"}`: 1,
		`kamaji_gateway_tenant_connections_active{tenant="other"}`: 1, `kamaji_gateway_tenant_connections_total{tenant="other"}`: 1,
	} {
		if got, ok := m[name]; !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if _, ok := m[`kamaji_gateway_tenant_connections_total{tenant="tenants/b"}`]; ok {
		t.Error("a tenant beyond the bound has a series")
	}
	const series = `kamaji_gateway_tenant_bytes_total{direction="to_upstream",tenant="tenants/a"}`
	if !ca.alive() {
		t.Fatal("no answer")
	}
	if later := scrape(t, g); later[series] <= m[series] || m[series] <= 0 || later[`kamaji_gateway_bytes_total{direction="to_upstream"}`] <= later[series] {
		t.Errorf("bytes of an open connection: %v, then %v, of all %v", m[series], later[series], later[`kamaji_gateway_bytes_total{direction="to_upstream"}`])
	}
	if limit := m["kamaji_gateway_connections_limit"]; limit <= 0 {
		t.Errorf("the limit is %v", limit)
	}
}

// scrape returns what the metrics port shows, by series.
func scrape(t *testing.T, g *Gateway) map[string]float64 {
	t.Helper()
	_, text := getAt(t, g.scrapes.Addr().String(), "/metrics")
	out := map[string]float64{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 2 {
			if v, err := strconv.ParseFloat(fields[1], 64); err == nil {
				out[fields[0]] = v
			}
		}
	}
	return out
}
