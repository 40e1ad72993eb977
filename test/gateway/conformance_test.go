// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

// behaviours are what every data plane has to do.
var behaviours = []struct {
	name string
	test func(t *testing.T, p plane)
}{
	{"every way leads to its tenant", everyWay},
	{"nothing else leads anywhere", nothingElse},
	{"a private tenant is not public", privateOnly},
	{"only listed networks may connect", networks},
	{"a route has a limit", limits},
	{"one direction may end before the other", halfClose},
	{"endpoints change under open streams", endpointsChange},
	{"an endpoint that is down is passed over", endpointDown},
	{"a tenant without endpoints is refused at once", asleep},
	{"clients with a name reach the activator of a tenant without endpoints", awaited},
	{"tenants come and go alone", comeAndGo},
	{"a gateway may serve addresses instead of ports", addressesOnly},
	{"draining takes no more and cuts nothing", draining},
}

func TestConformance(t *testing.T) {
	for _, p := range planes() {
		for _, b := range behaviours {
			t.Run(p.name+"/"+strings.ReplaceAll(b.name, " ", "-"), func(t *testing.T) { b.test(t, p) })
		}
	}
}

var agent = []string{route.ALPNKonnectivity, "h2"}

func everyWay(t *testing.T, p plane) {
	w := newWorld(t)
	tenants := []*tenant{w.newTenant(t, "c1"), w.newTenant(t, "c2"), w.newTenant(t, "c3")}
	p.start(t, w)
	for _, n := range tenants {
		for _, tc := range []struct {
			who, want string
			visit     visit
		}{
			{"customer", "apiserver", visit{to: w.public(), name: n.Hostname, protocols: []string{"h2", "http/1.1"}}},
			{"customer without ALPN", "apiserver", visit{to: w.public(), name: n.Hostname}},
			{"customer in capitals", "apiserver", visit{to: w.public(), name: strings.ToUpper(n.Hostname)}},
			{"customer with another name", "apiserver", visit{to: w.public(), name: n.AdditionalHostnames[0]}},
			{"agent outside", "konnectivity", visit{to: w.public(), name: n.Hostname, protocols: agent}},
			{"kubelet", "apiserver", visit{to: w.private(), name: n.Hostname, protocols: []string{"h2"}}},
			{"agent", "konnectivity", visit{to: w.private(), name: n.Hostname, protocols: agent}},
			{"agent that offers it last", "konnectivity", visit{to: w.private(), name: n.Hostname, protocols: []string{"h2", route.ALPNKonnectivity}}},
			{"pod by address", "apiserver", visit{to: w.own(n.Tenant)}},
			{"pod by name", "apiserver", visit{to: w.own(n.Tenant), name: "kubernetes.default.svc"}},
			{"agent by address", "konnectivity", visit{to: w.own(n.Tenant), protocols: agent}},
			{"pod at the tenant's address", "apiserver", visit{to: w.address(n.Tenant)}},
			{"pod by name at the tenant's address", "apiserver", visit{to: w.address(n.Tenant), name: "kubernetes.default.svc"}},
			{"agent at the tenant's address", "konnectivity", visit{to: w.address(n.Tenant), protocols: agent}},
		} {
			if _, got := connect(t, tc.visit); got != n.Name+" "+tc.want {
				t.Errorf("%s of %s reaches %q", tc.who, n.Name, got)
			}
		}
	}
}

func nothingElse(t *testing.T, p plane) {
	w := newWorld(t)
	a := w.newTenant(t, "a")
	p.start(t, w)
	for what, v := range map[string]visit{
		"unknown name":                              {to: w.public(), name: "nobody.k8s.example.com"},
		"no name on the public address":             {to: w.public()},
		"no name on the private address":            {to: w.private()},
		"the name that pods use":                    {to: w.private(), name: "kubernetes.default.svc"},
		"an address as name":                        {to: w.public(), name: "127.0.0.2"},
		"a name for customers, on the private side": {to: w.private(), name: a.AdditionalHostnames[0]},
		"agent with a name for the API server only": {to: w.public(), name: a.AdditionalHostnames[0], protocols: agent},
		"the name of a route":                       {to: w.public(), name: "public|sni|" + a.Hostname},
		"a name that ends like an agent's route":    {to: w.public(), name: a.Hostname + "|" + route.ALPNKonnectivity},
		"the name of the control plane's cluster":   {to: w.public(), name: "xds"},
		"an address of the prefix that nobody has":  {to: netip.AddrPortFrom(netip.MustParseAddr("127.99.255.9"), w.gateway.Port)},
		"a name at an address outside the prefix":   {to: netip.AddrPortFrom(netip.MustParseAddr("127.98.0.1"), w.gateway.Port), name: a.Hostname},
		"plain HTTP":                  {to: w.public(), raw: []byte("GET / HTTP/1.1\r\nHost: " + a.Hostname + "\r\n\r\n")},
		"plain HTTP on a tenant port": {to: w.own(a.Tenant), raw: []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
	} {
		if _, got := connect(t, v); strings.Contains(got, "apiserver") || strings.Contains(got, "konnectivity") {
			t.Errorf("%s reaches %s", what, got)
		}
	}
	open(t, visit{to: w.public(), name: a.Hostname}, "a apiserver")
}

func privateOnly(t *testing.T, p plane) {
	w := newWorld(t)
	n := w.newTenant(t, "a")
	n.PrivateOnly = true
	w.set(t, n.Tenant, n.backends)
	p.start(t, w)
	open(t, visit{to: w.private(), name: n.Hostname}, "a apiserver")
	if _, got := connect(t, visit{to: w.public(), name: n.Hostname}); got != "" {
		t.Errorf("customers reach %s", got)
	}
	n.PrivateOnly = false
	w.set(t, n.Tenant, n.backends)
	until(t, "it is public", func() bool {
		_, got := connect(t, visit{to: w.public(), name: n.Hostname})
		return got == "a apiserver"
	})
}

func networks(t *testing.T, p plane) {
	w := newWorld(t)
	n, other := w.newTenant(t, "a"), w.newTenant(t, "b")
	n.Public.Sources = route.SortSources([]netip.Prefix{netip.MustParsePrefix("127.1.0.0/16"), netip.MustParsePrefix("127.3.3.3/32")})
	n.Private.Sources = []netip.Prefix{netip.MustParsePrefix("127.2.0.0/16")}
	w.set(t, n.Tenant, n.backends)
	p.start(t, w)
	customer, worker, single, stranger := netip.MustParseAddr("127.1.9.9"), netip.MustParseAddr("127.2.0.1"), netip.MustParseAddr("127.3.3.3"), netip.MustParseAddr("127.3.3.4")
	for _, tc := range []struct {
		from netip.Addr
		to   netip.AddrPort
		name string
		alpn []string
		want string
	}{
		{customer, w.public(), n.Hostname, nil, "a apiserver"},
		{customer, w.public(), n.AdditionalHostnames[0], nil, "a apiserver"},
		{customer, w.public(), n.Hostname, agent, "a konnectivity"},
		{single, w.public(), n.Hostname, nil, "a apiserver"},
		{stranger, w.public(), n.Hostname, nil, ""},
		{stranger, w.public(), n.AdditionalHostnames[0], nil, ""},
		{stranger, w.public(), n.Hostname, agent, ""},
		{worker, w.public(), n.Hostname, nil, ""},
		{worker, w.private(), n.Hostname, nil, "a apiserver"},
		{worker, w.own(n.Tenant), "", nil, "a apiserver"},
		{worker, w.own(n.Tenant), "", agent, "a konnectivity"},
		{worker, w.address(n.Tenant), "", nil, "a apiserver"},
		{customer, w.address(n.Tenant), "", nil, ""},
		{customer, w.private(), n.Hostname, nil, ""},
		{customer, w.own(n.Tenant), "", nil, ""},
		{customer, w.own(n.Tenant), other.Hostname, agent, ""},
		{stranger, w.public(), other.Hostname, nil, "b apiserver"},
		{stranger, w.own(other.Tenant), "", nil, "b apiserver"},
	} {
		if _, got := connect(t, visit{from: tc.from, to: tc.to, name: tc.name, protocols: tc.alpn}); got != tc.want {
			t.Errorf("from %s to %s as %q with %v: reached %q, want %q", tc.from, tc.to, tc.name, tc.alpn, got, tc.want)
		}
	}
	// The lists change under open streams, which are not asked again.
	kept := open(t, visit{from: customer, to: w.public(), name: n.Hostname}, "a apiserver")
	n.Public.Sources = []netip.Prefix{netip.PrefixFrom(stranger, 32)}
	w.set(t, n.Tenant, n.backends)
	until(t, "the stranger is let in", func() bool {
		_, got := connect(t, visit{from: stranger, to: w.public(), name: n.Hostname})
		return got == "a apiserver"
	})
	if _, got := connect(t, visit{from: customer, to: w.public(), name: n.Hostname}); got != "" {
		t.Errorf("the former customer reaches %s", got)
	}
	if !kept.alive() {
		t.Error("a change of the list cut an open stream")
	}
}

func limits(t *testing.T, p plane) {
	w := newWorld(t)
	n, other := w.newTenant(t, "a"), w.newTenant(t, "b")
	n.Public.MaxConnections = 2
	w.set(t, n.Tenant, n.backends)
	p.start(t, w)
	at := visit{to: w.public(), name: n.Hostname}
	first := open(t, at, "a apiserver")
	open(t, at, "a apiserver")
	if _, got := connect(t, at); got != "" {
		t.Errorf("the third of two connections reached %s", got)
	}
	open(t, visit{to: w.private(), name: n.Hostname}, "a apiserver")
	open(t, visit{to: w.public(), name: other.Hostname}, "b apiserver")
	must(t, first.Close())
	until(t, "a place gets free", func() bool { _, got := connect(t, at); return got == "a apiserver" })
}

func halfClose(t *testing.T, p plane) {
	w := newWorld(t)
	n := w.newTenant(t, "a")
	p.start(t, w)
	c := open(t, visit{to: w.public(), name: n.Hostname}, "a apiserver")
	must(t, c.CloseWrite())
	must(t, c.SetReadDeadline(time.Now().Add(patience)))
	if rest, err := io.ReadAll(c.in); err != nil || string(rest) != "bye\n" {
		t.Errorf("after the client's end came %q, %v", rest, err)
	}
}

func endpointsChange(t *testing.T, p plane) {
	w := newWorld(t)
	n := w.newTenant(t, "a")
	p.start(t, w)
	at := visit{to: w.public(), name: n.Hostname}
	old := open(t, at, "a apiserver")
	was := n.backends[route.PortAPIServer][0]
	was.Draining = true
	n.backends[route.PortAPIServer] = []route.Endpoint{was}
	n.serve(t, route.PortAPIServer, "a new")
	w.set(t, n.Tenant, n.backends)
	until(t, "the new endpoint is used", func() bool { _, got := connect(t, at); return got == "a new" })
	for range 8 {
		if _, got := connect(t, visit{to: w.own(n.Tenant)}); got != "a new" {
			t.Errorf("a new connection goes to %q while the old endpoint drains", got)
		}
	}
	if !old.alive() {
		t.Error("a stream of a draining endpoint was cut")
	}
	n.backends[route.PortAPIServer] = n.backends[route.PortAPIServer][1:]
	w.set(t, n.Tenant, n.backends)
	n.serve(t, route.PortAPIServer, "a newer")
	w.set(t, n.Tenant, n.backends)
	until(t, "a newer endpoint is used", func() bool { _, got := connect(t, at); return got == "a newer" })
	n.backends[route.PortAPIServer] = nil
	w.set(t, n.Tenant, n.backends)
	until(t, "no endpoint is used", func() bool { _, got := connect(t, at); return got == "" })
}

func endpointDown(t *testing.T, p plane) {
	w := newWorld(t)
	n := w.newTenant(t, "a")
	n.servers["a apiserver"].stop()
	n.serve(t, route.PortAPIServer, "a survivor")
	w.set(t, n.Tenant, n.backends)
	p.start(t, w)
	for range 8 {
		open(t, visit{to: w.public(), name: n.Hostname}, "a survivor")
	}
}

// asleep is about a control plane that was scaled to zero. connect fails the test for a client that is kept waiting.
func asleep(t *testing.T, p plane) {
	w := newWorld(t)
	n, other := w.newTenant(t, "a"), w.newTenant(t, "b")
	w.set(t, n.Tenant, route.Backends{})
	p.start(t, w)
	ways := []visit{{to: w.public(), name: n.Hostname}, {to: w.private(), name: n.Hostname}, {to: w.own(n.Tenant)}, {to: w.address(n.Tenant)}}
	for _, v := range ways {
		if _, got := connect(t, v); got != "" {
			t.Errorf("a sleeping tenant's connection reaches %s", got)
		}
	}
	open(t, visit{to: w.public(), name: other.Hostname}, "b apiserver")
	w.set(t, n.Tenant, n.backends)
	for _, v := range ways {
		until(t, "the tenant is awake", func() bool { _, got := connect(t, v); return got == "a apiserver" })
	}
}

// awaited is about a control plane that a connection can wake: the activator answers for its API server while that takes none, to those who
// say by a name which tenant they want.
func awaited(t *testing.T, p plane) {
	w := newWorld(t)
	w.newActivator(t)
	n, other := w.newTenant(t, "a"), w.newTenant(t, "b")
	n.Wake = true
	w.set(t, n.Tenant, route.Backends{})
	w.set(t, other.Tenant, route.Backends{})
	p.start(t, w)
	named := []visit{{to: w.public(), name: n.Hostname}, {to: w.public(), name: n.AdditionalHostnames[0]}, {to: w.private(), name: n.Hostname}}
	for _, v := range named {
		open(t, v, "activator")
	}
	for what, v := range map[string]visit{
		"a pod's connection":             {to: w.own(n.Tenant)},
		"a name at the tenant's port":    {to: w.own(n.Tenant), name: n.Hostname},
		"the tenant's address":           {to: w.address(n.Tenant), name: n.Hostname},
		"an agent's connection":          {to: w.private(), name: n.Hostname, protocols: agent},
		"one to a tenant without waking": {to: w.public(), name: other.Hostname},
	} {
		if _, got := connect(t, v); got != "" {
			t.Errorf("%s reaches %s", what, got)
		}
	}
	w.set(t, n.Tenant, n.backends)
	for _, v := range named {
		until(t, "the tenant is awake", func() bool { _, got := connect(t, v); return got == "a apiserver" })
	}
	kept := open(t, named[0], "a apiserver")
	n.backends[route.PortAPIServer][0].Draining = true
	w.set(t, n.Tenant, n.backends)
	until(t, "it falls asleep", func() bool { _, got := connect(t, named[0]); return got == "activator" })
	if !kept.alive() {
		t.Error("a stream of an API server that ends was cut")
	}
	n.Wake = false
	w.set(t, n.Tenant, n.backends)
	until(t, "connections wake it no more", func() bool { _, got := connect(t, named[0]); return got == "" })
	if !kept.alive() {
		t.Error("that connections wake it no more has cut a stream")
	}
}

func comeAndGo(t *testing.T, p plane) {
	w := newWorld(t)
	a, b := w.newTenant(t, "a"), w.newTenant(t, "b")
	p.start(t, w)
	kept := []*client{open(t, visit{to: w.public(), name: b.Hostname}, "b apiserver"), open(t, visit{to: w.own(b.Tenant), protocols: agent}, "b konnectivity")}
	must(t, w.state.RemoveTenant(a.Namespace, a.Name))
	until(t, "a removed tenant is not reached", func() bool { _, got := connect(t, visit{to: w.public(), name: a.Hostname}); return got == "" })
	until(t, "nor by its port", func() bool { _, got := connect(t, visit{to: w.own(a.Tenant)}); return got == "" })
	c := w.newTenant(t, "c")
	until(t, "a new tenant is reached", func() bool { _, got := connect(t, visit{to: w.own(c.Tenant)}); return got == "c apiserver" })
	for _, k := range kept {
		if !k.alive() {
			t.Error("a stream of another tenant was cut")
		}
	}
}

func addressesOnly(t *testing.T, p plane) {
	w := newWorld(t)
	a, without := w.newTenant(t, "a"), w.newTenant(t, "b")
	without.Address = netip.Addr{}
	w.set(t, without.Tenant, without.backends)
	p.start(t, w)
	kept := []*client{
		open(t, visit{to: w.address(a.Tenant)}, "a apiserver"), open(t, visit{to: w.private(), name: a.Hostname, protocols: agent}, "a konnectivity"),
		open(t, visit{to: w.own(without.Tenant)}, "b apiserver"),
	}
	closed := w.gateway
	closed.AddressesOnly = true
	must(t, w.state.SetGateway(closed))
	until(t, "the port is closed", func() bool { _, got := connect(t, visit{to: w.own(a.Tenant)}); return got == "" })
	late := w.newTenant(t, "c")
	until(t, "a new tenant is reached at its address", func() bool {
		_, got := connect(t, visit{to: w.address(late.Tenant)})
		return got == "c apiserver"
	})
	for what, v := range map[string]visit{
		"the port":                     {to: w.own(a.Tenant)},
		"the port, as an agent":        {to: w.own(a.Tenant), protocols: agent},
		"the port of a new tenant":     {to: w.own(late.Tenant)},
		"a port that was a tenant's":   {to: w.own(a.Tenant), name: a.Hostname},
		"a port by somebody's address": {to: netip.AddrPortFrom(a.Address, a.Port)},
	} {
		if _, got := connect(t, v); got != "" {
			t.Errorf("%s leads to %s", what, got)
		}
	}
	open(t, visit{to: w.address(a.Tenant), protocols: agent}, "a konnectivity")
	open(t, visit{to: w.own(without.Tenant)}, "b apiserver")
	for _, k := range kept {
		if !k.alive() {
			t.Error("closing ports cut a stream that had come by another way")
		}
	}
	must(t, w.state.SetGateway(w.gateway))
	until(t, "the port is open again", func() bool { _, got := connect(t, visit{to: w.own(a.Tenant)}); return got == "a apiserver" })
}

func draining(t *testing.T, p plane) {
	w := newWorld(t)
	n := w.newTenant(t, "a")
	drain := p.start(t, w)
	kept := open(t, visit{to: w.public(), name: n.Hostname}, "a apiserver")
	drain()
	until(t, "no connection is taken", func() bool {
		c, err := net.DialTimeout("tcp", w.public().String(), patience)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	if !kept.alive() {
		t.Error("a stream was cut")
	}
	must(t, kept.Close())
}
