// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"fmt"
	"net/netip"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	filterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	setfilterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

const (
	// bufferLimit bounds what Envoy buffers per connection and direction, in bytes. The default of 1 MiB times the idle watches
	// of many tenants is more memory than a gateway has.
	bufferLimit = 32 << 10
	// helloTimeout bounds how long a client may take to send its ClientHello.
	helloTimeout = 5 * time.Second
	// helloSize is the largest ClientHello accepted, in bytes: the largest TLS record.
	helloSize = 16 << 10
	// backlog of connections that wait to be accepted: all workers of a tenant come back at once after an outage.
	backlog = 4096
	// acceptAtOnce bounds how many connections a worker thread accepts before it serves the others again.
	acceptAtOnce = 8
	// noCluster is the cluster of a connection for which no name was computed. No such cluster exists.
	noCluster = "none"
	// clusterState is the filter state object from which tcp_proxy takes the name of the cluster.
	clusterState = "envoy.tcp_proxy.cluster"
)

// accessLogFields are the fields of a line of the access log, by the names that the embedded data plane gives them. The upstream's local
// port joins a line with the tenant's audit log, which sees the gateway as client.
var accessLogFields = map[string]any{
	"time": "%START_TIME%", "client": "%DOWNSTREAM_REMOTE_ADDRESS%", "address": "%DOWNSTREAM_LOCAL_ADDRESS%",
	"sni": "%REQUESTED_SERVER_NAME%", "route": "%UPSTREAM_CLUSTER%", "upstream": "%UPSTREAM_HOST%", "upstreamLocalPort": "%UPSTREAM_LOCAL_PORT%",
	"bytesSent": "%BYTES_RECEIVED%", "bytesReceived": "%BYTES_SENT%", "durationMs": "%DURATION%", "reason": "%RESPONSE_FLAGS%",
}

// Values of Linux socket options, for keepalive on downstream connections: a peer that vanished is noticed after two minutes.
const (
	solSocket, soKeepAlive                = 1, 9
	ipProtoTCP                            = 6
	tcpKeepIdle, tcpKeepIntvl, tcpKeepCnt = 4, 5, 6
	keepIdle, keepInterval, keepCount     = 60, 20, 3
)

// Listeners are the two listeners of a gateway, or three when tenants have addresses of their own. They depend on the gateway only, so
// that no change of a tenant drains connections.
func Listeners(g route.Gateway) ([]*listenerv3.Listener, error) {
	public, err := listener(route.Public, g.PublicAddress, g.Port, []chain{
		{name: "konnectivity", konnectivity: true, access: PublicHosts, cluster: hostCluster(route.Public, true)},
		{name: "apiserver", access: PublicHosts, cluster: hostCluster(route.Public, false)},
	})
	if err != nil {
		return nil, err
	}
	private, err := listener(route.Private, g.PrivateAddress, g.Port, []chain{
		{name: "konnectivity", port: g.Port, konnectivity: true, access: PrivateHosts, cluster: hostCluster(route.Private, true)},
		{name: "apiserver", port: g.Port, access: PrivateHosts, cluster: hostCluster(route.Private, false)},
		{name: "tenant-port-konnectivity", konnectivity: true, access: PrivatePorts, cluster: portCluster(true)},
		{name: "tenant-port-apiserver", access: PrivatePorts, cluster: portCluster(false)},
	})
	if err != nil {
		return nil, err
	}
	public.Metadata = Protection{Limits: g.Limits, Proxies: g.PublicProxies}.metadata()
	private.Metadata = Protection{Limits: g.Limits, Proxies: g.PrivateProxies}.metadata()
	if !g.PrivatePrefix.IsValid() {
		return []*listenerv3.Listener{public, private}, nil
	}
	// One socket for all addresses of the prefix, which are local by a route (AnyIP), not by being on an interface.
	anywhere := netip.IPv4Unspecified()
	if g.PrivatePrefix.Addr().Is6() {
		anywhere = netip.IPv6Unspecified()
	}
	prefix, err := listener(route.Prefix, anywhere, g.Port, []chain{
		{name: "konnectivity", prefix: g.PrivatePrefix, konnectivity: true, access: PrivateAddresses, cluster: addressCluster(true)},
		{name: "apiserver", prefix: g.PrivatePrefix, access: PrivateAddresses, cluster: addressCluster(false)},
	})
	if err != nil {
		return nil, err
	}
	prefix.Metadata = private.GetMetadata()
	return []*listenerv3.Listener{public, private, prefix}, nil
}

// PrefixOf is the network that the destination of connections to the listener route.Prefix must be in.
func PrefixOf(l *listenerv3.Listener) (netip.Prefix, error) {
	for _, chain := range l.GetFilterChains() {
		ranges := chain.GetFilterChainMatch().GetPrefixRanges()
		if len(ranges) == 0 {
			continue
		}
		address, err := netip.ParseAddr(ranges[0].GetAddressPrefix())
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("listener %s: prefix_ranges: %w", l.GetName(), err)
		}
		return address.Prefix(int(ranges[0].GetPrefixLen().GetValue()))
	}
	return netip.Prefix{}, fmt.Errorf("listener %s has no prefix_ranges", l.GetName())
}

// chain is one fixed filter chain.
type chain struct {
	name string
	// port is the destination port to match, or 0 for any other.
	port uint16
	// prefix the destination address must be in, or the zero Prefix for any.
	prefix       netip.Prefix
	konnectivity bool
	// access says who may connect.
	access AccessList
	// cluster is the format of the name of the cluster.
	cluster string
}

func hostCluster(l route.Listener, konnectivity bool) string {
	return route.HostKeyFormat(l, "%REQUESTED_SERVER_NAME%", konnectivity)
}

func portCluster(konnectivity bool) string {
	return route.PortKeyFormat("%DOWNSTREAM_LOCAL_PORT%", konnectivity)
}

func addressCluster(konnectivity bool) string {
	return route.AddressKeyFormat("%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", konnectivity)
}

func listener(name route.Listener, address netip.Addr, port uint16, chains []chain) (*listenerv3.Listener, error) {
	l := &listenerv3.Listener{
		Name:                          string(name),
		StatPrefix:                    string(name),
		Address:                       socketAddress(address, port),
		Freebind:                      wrapperspb.Bool(true),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(bufferLimit),
		ListenerFiltersTimeout:        durationpb.New(helloTimeout),
		// A storm of connections must not keep a worker from those that are open.
		MaxConnectionsToAcceptPerSocketEvent: wrapperspb.UInt32(acceptAtOnce),
		TcpBacklogSize:                       wrapperspb.UInt32(backlog),
		SocketOptions: []*corev3.SocketOption{
			socketOption(solSocket, soKeepAlive, 1), socketOption(ipProtoTCP, tcpKeepIdle, keepIdle),
			socketOption(ipProtoTCP, tcpKeepIntvl, keepInterval), socketOption(ipProtoTCP, tcpKeepCnt, keepCount),
		},
	}
	var err error
	if l.ListenerFilters, err = listenerFilters(name); err != nil {
		return nil, err
	}
	for _, c := range chains {
		fc, err := filterChain(name, c)
		if err != nil {
			return nil, err
		}
		l.FilterChains = append(l.FilterChains, fc)
	}
	return l, nil
}

func listenerFilters(name route.Listener) ([]*listenerv3.ListenerFilter, error) {
	inspector, err := pack(&tlsinspectorv3.TlsInspector{MaxClientHelloSize: wrapperspb.UInt32(helloSize)})
	if err != nil {
		return nil, err
	}
	filters := []*listenerv3.ListenerFilter{{
		Name: "envoy.filters.listener.tls_inspector", ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: inspector},
	}}
	if name != route.Private {
		return filters, nil
	}
	// Tenant ports come by a redirect on the node; this restores the port the client dialled.
	original, err := pack(&originaldstv3.OriginalDst{})
	if err != nil {
		return nil, err
	}
	return append([]*listenerv3.ListenerFilter{{
		Name: "envoy.filters.listener.original_dst", ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: original},
	}}, filters...), nil
}

func filterChain(l route.Listener, c chain) (*listenerv3.FilterChain, error) {
	match := &listenerv3.FilterChainMatch{TransportProtocol: "tls"}
	if c.port != 0 {
		match.DestinationPort = wrapperspb.UInt32(uint32(c.port))
	}
	if c.prefix.IsValid() {
		match.PrefixRanges = []*corev3.CidrRange{{
			AddressPrefix: c.prefix.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(c.prefix.Bits())),
		}}
	}
	if c.konnectivity {
		match.ApplicationProtocols = []string{route.ALPNKonnectivity}
	}
	state, err := pack(&setfilterstatev3.Config{OnNewConnection: []*filterstatev3.FilterStateValue{{
		Key: &filterstatev3.FilterStateValue_ObjectKey{ObjectKey: clusterState},
		Value: &filterstatev3.FilterStateValue_FormatString{FormatString: &corev3.SubstitutionFormatString{
			Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: inline(c.cluster)},
		}},
	}}})
	if err != nil {
		return nil, err
	}
	proxy, err := tcpProxy(string(l) + "-" + c.name)
	if err != nil {
		return nil, err
	}
	return &listenerv3.FilterChain{Name: c.name, FilterChainMatch: match, Filters: []*listenerv3.Filter{
		accessFilter(c.access),
		{Name: "envoy.filters.network.set_filter_state", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: state}},
		{Name: "envoy.filters.network.tcp_proxy", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: proxy}},
	}}, nil
}

func tcpProxy(statPrefix string) (*anypb.Any, error) {
	fields, err := structpb.NewStruct(accessLogFields)
	if err != nil {
		return nil, fmt.Errorf("making the access log's format: %w", err)
	}
	log, err := pack(&streamv3.StdoutAccessLog{AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
		Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: fields}, OmitEmptyValues: true,
	}}})
	if err != nil {
		return nil, err
	}
	return pack(&tcpproxyv3.TcpProxy{
		StatPrefix:       statPrefix,
		ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: noCluster},
		// kubectl exec may be silent for hours; keepalive finds peers that are gone.
		IdleTimeout:        durationpb.New(0),
		MaxConnectAttempts: wrapperspb.UInt32(3),
		AccessLog: []*accesslogv3.AccessLog{{
			Name: "envoy.access_loggers.stdout", ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: log},
		}},
	})
}

func inline(s string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: s}}
}

func socketOption(level, name, value int64) *corev3.SocketOption {
	return &corev3.SocketOption{
		Level: level, Name: name, Value: &corev3.SocketOption_IntValue{IntValue: value}, State: corev3.SocketOption_STATE_LISTENING,
	}
}

func socketAddress(address netip.Addr, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: address.String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

// pack encodes deterministically, so that equal configuration has equal bytes and no data plane sees a change where there is none.
func pack(m proto.Message) (*anypb.Any, error) {
	packed := &anypb.Any{}
	if err := anypb.MarshalFrom(packed, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, fmt.Errorf("encoding %T: %w", m, err)
	}
	return packed, nil
}
