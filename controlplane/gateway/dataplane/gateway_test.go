// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

// inCluster is what pods dial: an address, for which clients send no server name.
const inCluster = "10.96.0.1"

func TestEveryWayLeadsToTheRightTenant(t *testing.T) {
	w := newWorld(t)
	tenants := []*tenant{w.newTenant(t, "c1"), w.newTenant(t, "c2"), w.newTenant(t, "c3")}
	w.start(t, tenants...)
	for _, n := range tenants {
		for _, tc := range []struct {
			name   string
			listen string
			server string
			alpn   []string
			want   string
		}{
			{"customer", "public", n.Hostname, []string{"h2"}, "apiserver"},
			{"customer with another name", "public", n.AdditionalHostnames[0], nil, "apiserver"},
			{"customer in capitals", "public", strings.ToUpper(n.Hostname), nil, "apiserver"},
			{"agent from outside", "public", n.Hostname, []string{"konnectivity", "h2"}, "konnectivity"},
			{"kubelet", "private", n.Hostname, []string{"h2"}, "apiserver"},
			{"agent", "private", n.Hostname, []string{"konnectivity", "h2"}, "konnectivity"},
			{"pod by address", "own", inCluster, []string{"h2"}, "apiserver"},
			{"pod by name", "own", "kubernetes.default.svc", []string{"h2"}, "apiserver"},
			{"agent by address", "own", inCluster, []string{"konnectivity", "h2"}, "konnectivity"},
		} {
			addr := w.public()
			switch tc.listen {
			case "private":
				addr = w.private()
			case "own":
				addr = w.own(n)
			}
			c, greeting, err := n.dial(t, addr, tc.server, tc.alpn...)
			if err != nil {
				t.Errorf("%s of %s: %v", tc.name, n.Name, err)
				continue
			}
			if !strings.HasPrefix(greeting, n.Name+" "+tc.want+" ") {
				t.Errorf("%s of %s reached %s", tc.name, n.Name, greeting)
			}
			if !c.alive() {
				t.Errorf("%s of %s gets no answer", tc.name, n.Name)
			}
		}
	}
}

func TestNothingElseLeadsAnywhere(t *testing.T) {
	w := newWorld(t)
	a, b := w.newTenant(t, "a"), w.newTenant(t, "b")
	g, _ := w.start(t, a, b)
	for _, tc := range []struct {
		name, server, listen string
		alpn                 []string
		want                 string
	}{
		{"unknown name", "nobody.k8s.example.com", "public", nil, "unrecognized name"},
		{"no name on the public listener", inCluster, "public", nil, "unrecognized name"},
		{"no name on the private listener", inCluster, "private", nil, "unrecognized name"},
		{"the name that pods use, on the shared port", "kubernetes.default.svc", "private", nil, "unrecognized name"},
		{"a public name on the private listener", a.AdditionalHostnames[0], "private", nil, "unrecognized name"},
		{"agent with a name for the API server only", a.AdditionalHostnames[0], "public", []string{"konnectivity"}, "unrecognized name"},
		{"the name of a route", "public|sni|" + a.Hostname, "public", nil, "unrecognized name"},
		{"the own port of another tenant", a.Hostname, "own of b", nil, "certificate"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr := map[string]netip.AddrPort{"public": w.public(), "private": w.private(), "own of b": w.own(b)}[tc.listen]
			_, greeting, err := a.dial(t, addr, tc.server, tc.alpn...)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("greeting %q, error %v, want %q", greeting, err, tc.want)
			}
		})
	}
	if got := len(g.listeners.open); got != 4 {
		t.Errorf("%d listeners, want two shared ones and two tenant ports", got)
	}
}

func TestTenantsComeAndGoAlone(t *testing.T) {
	w := newWorld(t)
	a, b := w.newTenant(t, "a"), w.newTenant(t, "b")
	g, _ := w.start(t, a, b)
	kept := []*client{b.must(t, w.public(), b.Hostname), b.must(t, w.own(b), inCluster)}
	doomed := []*client{a.must(t, w.public(), a.Hostname), a.must(t, w.private(), a.Hostname, "konnectivity", "h2"), a.must(t, w.own(a), inCluster)}
	if err := w.state.RemoveTenant(a.Namespace, a.Name); err != nil {
		t.Fatal(err)
	}
	for _, c := range doomed {
		c.ended()
	}
	until(t, "the routes leave", func() bool { return g.routes.Len() == routesPerTenant })
	if _, _, err := a.dial(t, w.public(), a.Hostname); err == nil {
		t.Error("a removed tenant is still reached")
	}
	until(t, "the port closes", func() bool {
		c, err := net.Dial("tcp", w.own(a).String())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	w.newTenant(t, "c")
	until(t, "the new routes arrive", func() bool { return g.routes.Len() == 2*routesPerTenant })
	for _, c := range kept {
		if !c.alive() {
			t.Error("a connection of another tenant was cut")
		}
	}
}

func TestEndpointsComeAndGo(t *testing.T) {
	w := newWorld(t)
	n := w.newTenant(t, "c1")
	g, _ := w.start(t, n)
	old := n.must(t, w.public(), n.Hostname)
	backend := g.routes.Lookup([]byte(route.HostKey(route.Public, n.Hostname, false).String())).Backend()

	first := n.backends[route.PortAPIServer][0]
	n.backends[route.PortAPIServer] = []route.Endpoint{{Address: first.Address, Port: first.Port, Draining: true}}
	n.serve(t, route.PortAPIServer, "replacement", nil)
	w.set(t, n)
	until(t, "the replacement arrives", func() bool {
		_, greeting, err := n.dial(t, w.public(), n.Hostname)
		return err == nil && strings.HasPrefix(greeting, "c1 replacement")
	})
	if _, greeting, err := n.dial(t, w.own(n), inCluster); err != nil || !strings.HasPrefix(greeting, "c1 replacement") {
		t.Errorf("a new connection went to the draining endpoint: %q, %v", greeting, err)
	}
	n.backends[route.PortAPIServer] = n.backends[route.PortAPIServer][1:]
	w.set(t, n)
	n.backends[route.PortAPIServer] = nil
	w.set(t, n)
	until(t, "the endpoints are gone", func() bool {
		e := backend.Pick(w.gateway.PublicAddress, false, nil, time.Now())
		if e != nil {
			backend.Return(e, w.gateway.PublicAddress, false)
		}
		return e == nil
	})
	if _, _, err := n.dial(t, w.public(), n.Hostname); err == nil || strings.Contains(err.Error(), "unrecognized") {
		t.Errorf("without endpoints the client sees %v, want the end of the connection", err)
	}
	if !old.alive() {
		t.Error("an open connection was cut when its endpoint was removed")
	}
}

func TestFailedEndpointIsSkipped(t *testing.T) {
	w := newWorld(t)
	n := w.newTenant(t, "c1")
	for _, l := range n.servers {
		_ = l.Close()
	}
	n.serve(t, route.PortAPIServer, "survivor", nil)
	w.set(t, n)
	w.start(t, n)
	for range 4 {
		if _, greeting, err := n.dial(t, w.public(), n.Hostname); err != nil || !strings.HasPrefix(greeting, "c1 survivor") {
			t.Errorf("%q, %v", greeting, err)
		}
	}
}

func TestAgentsReachEveryServer(t *testing.T) {
	w := newWorld(t)
	n := w.newTenant(t, "c1")
	n.serve(t, route.PortKonnectivity, "konnectivity", []string{"h2"})
	n.serve(t, route.PortKonnectivity, "konnectivity", []string{"h2"})
	w.set(t, n)
	w.start(t, n)
	reached := map[string]bool{}
	for range 3 {
		_, greeting, err := n.dial(t, w.private(), n.Hostname, "konnectivity", "h2")
		if err != nil {
			t.Fatal(err)
		}
		reached[greeting] = true
	}
	if len(reached) != 3 {
		t.Errorf("three dials reached %d of three servers", len(reached))
	}
}

func TestRoutingGoesOnWithoutTheControlPlane(t *testing.T) {
	w := newWorld(t)
	a, b := w.newTenant(t, "a"), w.newTenant(t, "b")
	g, end := w.start(t, a, b)
	open := a.must(t, w.public(), a.Hostname)
	until(t, "the configuration is saved", func() bool {
		_, err := os.Stat(filepath.Join(w.config.StateDir, stateFile))
		return err == nil
	})
	w.stop()
	b.must(t, w.own(b), inCluster)
	if !open.alive() {
		t.Error("an open connection was cut when the control plane left")
	}
	end()
	if g.relay.Active() != 0 {
		t.Errorf("%d connections after the end", g.relay.Active())
	}

	// A tenant is removed and another gets another endpoint while nobody is there to hear it.
	if err := w.state.RemoveTenant(a.Namespace, a.Name); err != nil {
		t.Fatal(err)
	}
	b.serve(t, route.PortAPIServer, "new", nil)
	b.backends[route.PortAPIServer] = b.backends[route.PortAPIServer][1:]
	w.set(t, b)

	g, _ = w.run(t)
	if !g.configured.Load() || g.routes.Len() != 2*routesPerTenant {
		t.Fatalf("started from the saved state with %d routes", g.routes.Len())
	}
	old := a.must(t, w.public(), a.Hostname)
	kept := b.must(t, w.own(b), inCluster)

	w.startControlPlane(t)
	until(t, "the gateway catches up", func() bool { return g.routes.Len() == routesPerTenant })
	old.ended()
	until(t, "the new endpoint is used", func() bool {
		_, greeting, err := b.dial(t, w.own(b), inCluster)
		return err == nil && strings.HasPrefix(greeting, "b new")
	})
	if !kept.alive() {
		t.Error("a connection of a tenant that stayed was cut when the control plane came back")
	}
}

func TestSavedStateOfAnotherGatewayIsNotUsed(t *testing.T) {
	w := newWorld(t)
	g, end := w.start(t, w.newTenant(t, "a"))
	end()
	w.stop()
	w.config.Node.Gateway = "other"
	other, _ := w.run(t)
	if other.configured.Load() || other.routes.Len() != 0 || g == other {
		t.Errorf("%d routes out of another gateway's state", other.routes.Len())
	}
	if err := os.WriteFile(filepath.Join(w.config.StateDir, stateFile), []byte("\x05junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if broken, _ := w.run(t); broken.configured.Load() {
		t.Error("configured by a damaged file")
	}
}

func TestCertificatesMayComeLater(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	w.config.XDS.CAFile, w.config.XDS.CertFile, w.config.XDS.KeyFile =
		filepath.Join(dir, "ca.crt"), filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	w.ca.write(t, dir, w.ca.issue(t, nil, nil, route.Identity("other")))
	g, _ := w.run(t)
	if status, _ := get(t, g, "/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("ready with status %d before any configuration", status)
	}
	if status, _ := get(t, g, "/healthz"); status != http.StatusOK {
		t.Errorf("health is %d", status)
	}
	w.ca.write(t, dir, w.ca.issue(t, nil, nil, route.Identity(w.gateway.Name)))
	until(t, "it gets ready", func() bool { status, _ := get(t, g, "/readyz"); return status == http.StatusOK })
}

func TestGatewayMoves(t *testing.T) {
	w := newWorld(t)
	n := w.newTenant(t, "a")
	g, _ := w.start(t, n)
	open := n.must(t, w.private(), n.Hostname)
	before := w.private()
	w.gateway.PrivateAddress = w.gateway.PrivateAddress.Next()
	if err := w.state.SetGateway(w.gateway); err != nil {
		t.Fatal(err)
	}
	until(t, "the tenant port moves", func() bool { _, _, err := n.dial(t, w.own(n), inCluster); return err == nil })
	n.must(t, w.private(), n.Hostname)
	if _, err := net.Dial("tcp", before.String()); err == nil {
		t.Error("the old address is still open")
	}
	if !open.alive() {
		t.Error("an open connection was cut by the move")
	}
	w.state.RemoveGateway(w.gateway.Name)
	until(t, "the listeners close", func() bool {
		g.configMu.Lock()
		defer g.configMu.Unlock()
		return len(g.listeners.open) == 0
	})
}

func TestAccessLogAndMetrics(t *testing.T) {
	w := newWorld(t)
	n := w.newTenant(t, "a")
	g, _ := w.start(t, n)
	c := n.must(t, w.public(), n.Hostname)
	local := c.LocalAddr().String()
	// In turn, so that the server's farewell finds the client still there: otherwise its kernel answers with a reset.
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	_, _, _ = n.dial(t, w.public(), "nobody.example")
	var got []map[string]any
	until(t, "both connections are logged", func() bool {
		got = nil
		for _, line := range w.accessLog.all() {
			fields := map[string]any{}
			if json.Unmarshal([]byte(line), &fields) == nil {
				got = append(got, fields)
			}
		}
		return len(got) == 2
	})
	slices.SortFunc(got, func(a, b map[string]any) int { return strings.Compare(a["reason"].(string), b["reason"].(string)) })
	served := got[0]
	endpoint := n.backends[route.PortAPIServer][0]
	for key, want := range map[string]any{
		"client": local, "listener": "public", "sni": n.Hostname, "route": "public|sni|" + n.Hostname, "reason": "finished",
		"upstream": net.JoinHostPort(endpoint.Address.String(), strconv.Itoa(int(endpoint.Port))),
	} {
		if served[key] != want {
			t.Errorf("%s: %v, want %v", key, served[key], want)
		}
	}
	for _, key := range []string{"upstreamLocalPort", "bytesSent", "bytesReceived"} {
		if n, _ := served[key].(float64); n <= 0 {
			t.Errorf("%s: %v", key, served[key])
		}
	}
	if refused := got[1]; refused["reason"] != "no_route" || refused["sni"] != "nobody.example" || refused["route"] != nil {
		t.Errorf("refused: %v", refused)
	}
	_, metrics := get(t, g, "/metrics")
	for _, want := range []string{
		`kamaji_gateway_connections_total{listener="public",reason="finished"} 1`,
		`kamaji_gateway_connections_total{listener="public",reason="no_route"} 1`,
		`kamaji_gateway_connections_active{listener="public"} 0`,
		`kamaji_gateway_routes 7`, `kamaji_gateway_xds_connected 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(metrics, n.Hostname) || strings.Contains(metrics, "nobody") {
		t.Error("a metric has a label that a client or tenant chose")
	}
}

func get(t *testing.T, g *Gateway, path string) (int, string) {
	t.Helper()
	return getAt(t, g.health.Addr().String(), path)
}

func getAt(t *testing.T, addr, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
