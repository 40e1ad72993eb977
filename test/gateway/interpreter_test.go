// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacactionv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	setfilterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	networkinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// interpreter says what Envoy would do with a connection, by its resources. It knows the part of Envoy that they use, written after Envoy's
// documentation and sources, and fails the test for anything else.
type interpreter struct {
	t         testing.TB
	listeners []*listenerv3.Listener
	clusters  map[string]*clusterv3.Cluster
	endpoints map[string]*endpointv3.ClusterLoadAssignment
	access    map[string]*corev3.TypedExtensionConfig
}

// endpointsOf are the endpoints of which a new connection gets one; none when it is closed.
func (e *interpreter) endpointsOf(v visit) []netip.AddrPort {
	e.t.Helper()
	l := e.listener(v.to)
	if l == nil {
		return nil
	}
	chain := e.chain(l, v)
	if chain == nil {
		return nil
	}
	state := map[string]string{}
	for _, filter := range chain.GetFilters() {
		if discovery := filter.GetConfigDiscovery(); discovery != nil {
			config, ok := e.access[filter.GetName()]
			if !ok || !slices.Contains(discovery.GetTypeUrls(), config.GetTypedConfig().GetTypeUrl()) {
				return nil
			}
			if !e.allows(unpack(e.t, config.GetTypedConfig()).(*rbacv3.RBAC), v) {
				return nil
			}
			continue
		}
		switch config := unpack(e.t, filter.GetTypedConfig()).(type) {
		case *setfilterstatev3.Config:
			for _, value := range config.GetOnNewConnection() {
				state[value.GetObjectKey()] = e.format(value.GetFormatString().GetTextFormatSource().GetInlineString(), v)
			}
		case *tcpproxyv3.TcpProxy:
			name := config.GetCluster()
			if computed, ok := state["envoy.tcp_proxy.cluster"]; ok {
				name = computed
			}
			return e.healthy(name)
		default:
			e.t.Fatalf("filter %s is not understood", filter.GetName())
		}
	}
	return nil
}

// listener is the one that takes a connection: of its very address, else of the wildcard address. A listener with original_dst also takes
// the other ports of its address, by a redirect on the node.
func (e *interpreter) listener(to netip.AddrPort) *listenerv3.Listener {
	var anywhere *listenerv3.Listener
	for _, l := range e.listeners {
		socket := l.GetAddress().GetSocketAddress()
		address, err := netip.ParseAddr(socket.GetAddress())
		must(e.t, err)
		redirected := slices.ContainsFunc(l.GetListenerFilters(), func(f *listenerv3.ListenerFilter) bool {
			return f.GetName() == "envoy.filters.listener.original_dst"
		})
		switch {
		case address == to.Addr() && (redirected || socket.GetPortValue() == uint32(to.Port())):
			return l
		case address.IsUnspecified() && socket.GetPortValue() == uint32(to.Port()):
			anywhere = l
		}
	}
	return anywhere
}

// chain goes through the criteria in Envoy's order. At each the most specific value that any chain has decides, and there is no way back.
func (e *interpreter) chain(l *listenerv3.Listener, v visit) *listenerv3.FilterChain {
	left := slices.Clone(l.GetFilterChains())
	keep := func(rank func(*listenerv3.FilterChainMatch) int) {
		best := 0
		for _, c := range left {
			best = max(best, rank(c.GetFilterChainMatch()))
		}
		left = slices.DeleteFunc(left, func(c *listenerv3.FilterChain) bool { return best == 0 || rank(c.GetFilterChainMatch()) != best })
	}
	keep(func(m *listenerv3.FilterChainMatch) int {
		return choose(m.GetDestinationPort() == nil, m.GetDestinationPort().GetValue() == uint32(v.to.Port()))
	})
	keep(func(m *listenerv3.FilterChainMatch) int {
		if len(m.GetPrefixRanges()) == 0 {
			return 1
		}
		longest := 0
		for _, r := range m.GetPrefixRanges() {
			address, err := netip.ParseAddr(r.GetAddressPrefix())
			must(e.t, err)
			if netip.PrefixFrom(address, int(r.GetPrefixLen().GetValue())).Contains(v.to.Addr()) {
				longest = max(longest, 2+int(r.GetPrefixLen().GetValue()))
			}
		}
		return longest
	})
	keep(func(m *listenerv3.FilterChainMatch) int {
		return choose(m.GetTransportProtocol() == "", m.GetTransportProtocol() == "tls" && v.raw == nil)
	})
	keep(func(m *listenerv3.FilterChainMatch) int {
		for i, p := range v.protocols {
			if slices.Contains(m.GetApplicationProtocols(), p) {
				return 1000 - i // the first of the client's that any chain has
			}
		}
		return choose(len(m.GetApplicationProtocols()) == 0, false)
	})
	for _, c := range l.GetFilterChains() {
		m := c.GetFilterChainMatch()
		if len(m.GetServerNames())+len(m.GetSourcePrefixRanges())+len(m.GetDirectSourcePrefixRanges())+len(m.GetSourcePorts()) > 0 || m.GetSourceType() != 0 {
			e.t.Fatalf("chain %s has criteria that are not understood", c.GetName())
		}
	}
	if len(left) > 1 {
		e.t.Fatalf("listener %s has %d chains for the same connection", l.GetName(), len(left))
	}
	if len(left) == 0 {
		return nil
	}
	return left[0]
}

// choose ranks a criterion that a chain may leave open: 2 when it is met, 1 when it is open, 0 when it is not met.
func choose(isOpen, met bool) int {
	switch {
	case isOpen:
		return 1
	case met:
		return 2
	}
	return 0
}

// serverName is the name as the TLS inspector hands it on.
func serverName(v visit) string { return strings.ToLower(v.name) }

// format evaluates the operators of a format string.
func (e *interpreter) format(format string, v visit) string {
	out := strings.NewReplacer(
		"%REQUESTED_SERVER_NAME%", sanitized(serverName(v)),
		"%DOWNSTREAM_LOCAL_PORT%", strconv.Itoa(int(v.to.Port())),
		"%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", v.to.Addr().String(),
	).Replace(format)
	if strings.Contains(out, "%") {
		e.t.Fatalf("format %q has an operator that is not understood", format)
	}
	return out
}

// sanitized is how Envoy prints a server name: "-" for none, and without what no host name has.
func sanitized(name string) string {
	if name == "" {
		return "-"
	}
	clean := strings.Map(func(r rune) rune {
		if r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
	if clean != name {
		return "INVALID:" + clean
	}
	return name
}

func (e *interpreter) healthy(cluster string) []netip.AddrPort {
	c, ok := e.clusters[cluster]
	if !ok {
		return nil
	}
	var out []netip.AddrPort
	for _, locality := range e.endpoints[c.GetEdsClusterConfig().GetServiceName()].GetEndpoints() {
		for _, endpoint := range locality.GetLbEndpoints() {
			if endpoint.GetHealthStatus() != corev3.HealthStatus_HEALTHY {
				continue
			}
			socket := endpoint.GetEndpoint().GetAddress().GetSocketAddress()
			address, err := netip.ParseAddr(socket.GetAddress())
			must(e.t, err)
			out = append(out, netip.AddrPortFrom(address, uint16(socket.GetPortValue())))
		}
	}
	slices.SortFunc(out, func(a, b netip.AddrPort) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Port(), b.Port()))
	})
	return out
}

// allows evaluates the matcher of an RBAC filter; what it has no answer for is denied.
func (e *interpreter) allows(config *rbacv3.RBAC, v visit) bool {
	action := e.match(config.GetMatcher(), v)
	return action != nil && unpack(e.t, action).(*rbacactionv3.Action).GetAction() == rbacactionv3.RBAC_ALLOW
}

func (e *interpreter) match(m *matcherv3.Matcher, v visit) *anypb.Any {
	if m.GetMatcherList() != nil {
		e.t.Fatal("a list of matchers is not understood")
	}
	on := m.GetOnNoMatch()
	if tree := m.GetMatcherTree(); tree != nil {
		if found := e.find(tree, v); found != nil {
			on = found
		}
	}
	if on.GetMatcher() != nil {
		return e.match(on.GetMatcher(), v)
	}
	return on.GetAction().GetTypedConfig()
}

// find is the branch of a tree that the connection takes, or nil.
func (e *interpreter) find(tree *matcherv3.Matcher_MatcherTree, v visit) *matcherv3.Matcher_OnMatch {
	var input string
	switch kind := unpack(e.t, tree.GetInput().GetTypedConfig()).(type) {
	case *networkinputsv3.ServerNameInput:
		input = serverName(v)
	case *networkinputsv3.DestinationPortInput:
		input = strconv.Itoa(int(v.to.Port()))
	case *networkinputsv3.DestinationIPInput:
		input = v.to.Addr().String()
	case *networkinputsv3.SourceIPInput:
		input = v.from.String()
	default:
		e.t.Fatalf("input %T is not understood", kind)
	}
	if exact := tree.GetExactMatchMap(); exact != nil {
		return exact.GetMap()[input]
	}
	ranges, ok := unpack(e.t, tree.GetCustomMatch().GetTypedConfig()).(*matcherv3.IPMatcher)
	if !ok {
		e.t.Fatalf("matcher %s is not understood", tree.GetCustomMatch().GetName())
	}
	address, err := netip.ParseAddr(input)
	must(e.t, err)
	for _, r := range ranges.GetRangeMatchers() {
		for _, in := range r.GetRanges() {
			prefix, err := netip.ParsePrefix(fmt.Sprintf("%s/%d", in.GetAddressPrefix(), in.GetPrefixLen().GetValue()))
			must(e.t, err)
			if prefix.Contains(address) {
				return r.GetOnMatch()
			}
		}
	}
	return nil
}

func unpack(t testing.TB, packed *anypb.Any) proto.Message {
	t.Helper()
	m, err := packed.UnmarshalNew()
	must(t, err)
	return m
}
