// SPDX-License-Identifier: Apache-2.0

package envoy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"sigs.k8s.io/yaml"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds"
)

// Names of the files that Config.Files makes. They have to lie in one folder, the one Config names.
const (
	BootstrapFile   = "envoy.yaml"
	certificateFile = "sds-certificate.yaml"
	authorityFile   = "sds-authority.yaml"
)

// Defaults of Config.
const (
	// DefaultMaxConnections is how many connections an instance takes, each of two sockets: under half of the million files that
	// container runtimes and the systemd unit allow.
	DefaultMaxConnections = 500_000
	// DefaultMaxHeap is the heap, in bytes, near which Envoy stops taking connections. Ten thousand tenants are some 60,000 clusters of
	// 24 KB and more each, for every worker thread.
	DefaultMaxHeap = 6 << 30
)

const (
	controlPlane = "xds" // the cluster of the control plane
	certificate  = "certificate"
	authority    = "authority"
	// A control plane that doesn't answer is left for another replica.
	connectTimeout              = 5 * time.Second
	pingInterval, pingTimeout   = 30 * time.Second, 10 * time.Second
	overloadInterval            = 250 * time.Millisecond
	shrinkAt, shedAt, saturated = 0.90, 0.92, 0.98
	// socketMode lets the companion, which has Envoy's group, use the administration socket.
	socketMode = 0o660
)

// Config is what an Envoy starts from.
type Config struct {
	// Gateway is the name of the KamajiGateway; the client certificate must carry it (route.Identity).
	Gateway string
	// Instance tells the data planes of a gateway apart. Empty where it is set by --service-node instead.
	Instance string
	// XDSAddress is host:port of the control plane, and XDSServerName the DNS name that its certificate must carry; by default its host.
	XDSAddress, XDSServerName string
	// TLSDir holds ca.crt, tls.crt and tls.key; a file that is moved there, as Kubernetes does, is read at once.
	TLSDir string
	// Dir is where the files that Files makes will be.
	Dir string
	// AdminSocket is the path of a unix socket for Envoy's administration interface, which has no other protection.
	AdminSocket string
	// MaxConnections and MaxHeap (bytes) are where an instance refuses more; 0: the defaults.
	MaxConnections, MaxHeap uint64
}

// Validate returns every mistake at once.
func (c Config) Validate() error {
	var errs []error
	if c.Gateway == "" || strings.Contains(c.Gateway, "/") {
		errs = append(errs, fmt.Errorf("gateway: %q is not the name of a KamajiGateway", c.Gateway))
	}
	host, port, err := net.SplitHostPort(c.XDSAddress)
	if number, portErr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || portErr != nil || number == 0 {
		errs = append(errs, fmt.Errorf("xds-address: %q is not host:port", c.XDSAddress))
	}
	for name, path := range map[string]string{"tls-dir": c.TLSDir, "dir": c.Dir, "admin-socket": c.AdminSocket} {
		if !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("%s: %q is not an absolute path", name, path))
		}
	}
	return errors.Join(errs...)
}

// Files are the bootstrap and the two files it refers to, by name, as YAML.
func (c Config) Files() (map[string][]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	bootstrap, err := c.Bootstrap()
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for name, m := range map[string]proto.Message{BootstrapFile: bootstrap, certificateFile: c.certificate(), authorityFile: c.authority()} {
		if secret, ok := m.(*tlsv3.Secret); ok {
			packed, err := anypb.New(secret)
			if err != nil {
				return nil, fmt.Errorf("encoding %s: %w", name, err)
			}
			m = &discoveryv3.DiscoveryResponse{Resources: []*anypb.Any{packed}}
		}
		data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("encoding %s: %w", name, err)
		}
		if out[name], err = yaml.JSONToYAML(data); err != nil {
			return nil, fmt.Errorf("encoding %s: %w", name, err)
		}
	}
	return out, nil
}

// Bootstrap is the content of Envoy's configuration file. Everything about tenants comes over xDS.
func (c Config) Bootstrap() (*bootstrapv3.Bootstrap, error) {
	cluster, err := c.controlPlane()
	if err != nil {
		return nil, err
	}
	overload, err := c.overload()
	if err != nil {
		return nil, err
	}
	return &bootstrapv3.Bootstrap{
		Node:            &corev3.Node{Id: route.NodeID(c.Gateway, c.Instance), Cluster: c.Gateway},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{cluster}},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			AdsConfig: &corev3.ApiConfigSource{
				ApiType: corev3.ApiConfigSource_DELTA_GRPC, TransportApiVersion: corev3.ApiVersion_V3, SetNodeOnFirstMessageOnly: true,
				GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
					EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: controlPlane},
				}}},
			},
			CdsConfig: followed(), LdsConfig: followed(),
		},
		Admin: &bootstrapv3.Admin{Address: &corev3.Address{Address: &corev3.Address_Pipe{
			Pipe: &corev3.Pipe{Path: c.AdminSocket, Mode: socketMode},
		}}},
		OverloadManager: overload,
		StatsConfig:     statistics(),
		// Of the statistics of 60,000 clusters, only those of used ones would ever be looked at.
		DeferredStatOptions: &bootstrapv3.Bootstrap_DeferredStatOptions{EnableDeferredCreationStats: true},
	}, nil
}

// followed is the control plane's stream. Envoy isn't ready before its first answer, however long that takes: without routes it could
// only refuse connections.
func followed() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3, InitialFetchTimeout: durationpb.New(0),
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

// controlPlane is the cluster of the xDS servers, with TLS 1.3 on both sides.
func (c Config) controlPlane() (*clusterv3.Cluster, error) {
	host, port, err := net.SplitHostPort(c.XDSAddress)
	if err != nil {
		return nil, fmt.Errorf("xds-address: %w", err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("xds-address: %w", err)
	}
	kind := clusterv3.Cluster_STRICT_DNS
	if _, err := netip.ParseAddr(host); err == nil {
		kind = clusterv3.Cluster_STATIC
	}
	transport, err := anypb.New(c.transport(host))
	if err != nil {
		return nil, fmt.Errorf("encoding TLS to the control plane: %w", err)
	}
	protocol, err := anypb.New(&httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
				ConnectionKeepalive: &corev3.KeepaliveSettings{Interval: durationpb.New(pingInterval), Timeout: durationpb.New(pingTimeout)},
			}},
		},
	}})
	if err != nil {
		return nil, fmt.Errorf("encoding HTTP/2 to the control plane: %w", err)
	}
	endpoint := &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(number)},
		}}},
	}}}
	return &clusterv3.Cluster{
		Name: controlPlane, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: kind}, ConnectTimeout: durationpb.New(connectTimeout),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: controlPlane, Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{endpoint}}},
		},
		TransportSocket: &corev3.TransportSocket{
			Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: transport},
		},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol},
	}, nil
}

func (c Config) transport(host string) *tlsv3.UpstreamTlsContext {
	name := c.XDSServerName
	if name == "" {
		name = host
	}
	return &tlsv3.UpstreamTlsContext{Sni: name, CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsParams:                      &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3},
		AlpnProtocols:                  []string{"h2"},
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{c.secret(certificate, certificateFile)},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext: &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
				SanType: tlsv3.SubjectAltNameMatcher_DNS,
				Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}},
			}}},
			ValidationContextSdsSecretConfig: c.secret(authority, authorityFile),
		}},
	}}
}

// secret refers to a secret in a file. Only those are read again when the files that they name are replaced.
func (c Config) secret(name, file string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{PathConfigSource: &corev3.PathConfigSource{
			Path: filepath.Join(c.Dir, file),
		}},
	}}
}

func (c Config) certificate() *tlsv3.Secret {
	return &tlsv3.Secret{Name: certificate, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: c.file("tls.crt"), PrivateKey: c.file("tls.key"), WatchedDirectory: &corev3.WatchedDirectory{Path: c.TLSDir},
	}}}
}

func (c Config) authority() *tlsv3.Secret {
	return &tlsv3.Secret{Name: authority, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
		TrustedCa: c.file("ca.crt"), WatchedDirectory: &corev3.WatchedDirectory{Path: c.TLSDir},
	}}}
}

func (c Config) file(name string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: filepath.Join(c.TLSDir, name)}}
}

// statistics keeps those of the process, the listeners and the control plane. Labels that tenants or clients choose, such as the names of
// clusters, would make their number unbounded.
func statistics() *metricsv3.StatsConfig {
	list := &matcherv3.ListStringMatcher{}
	prefixes := []string{"server.", "listener.", "listener_manager.", "cluster_manager.", "cluster." + controlPlane + ".", "control_plane.", "overload.", "tcp.", "tls_inspector."}
	for _, l := range xds.AccessLists() {
		prefixes = append(prefixes, string(l)+".")
	}
	for _, prefix := range prefixes {
		list.Patterns = append(list.Patterns, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}})
	}
	return &metricsv3.StatsConfig{StatsMatcher: &metricsv3.StatsMatcher{StatsMatcher: &metricsv3.StatsMatcher_InclusionList{InclusionList: list}}}
}
