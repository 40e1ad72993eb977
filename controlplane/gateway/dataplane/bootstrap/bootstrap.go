// SPDX-License-Identifier: Apache-2.0

// Package bootstrap is the file a gateway data plane starts from: who it is, where its control plane
// serves xDS and with which certificates, and where it keeps the last configuration it was given.
// Everything else (addresses, ports, tenants, endpoints) comes over xDS.
package bootstrap

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

const (
	// DefaultHealthAddress serves /healthz, /readyz and /metrics when the file names no address. All
	// addresses of the host, because kubelet probes a hostNetwork pod on the address of the node.
	DefaultHealthAddress = ":9902"
	// DefaultDrainSeconds leaves ten seconds of the usual 30 s pod termination grace period for the
	// process to end by itself.
	DefaultDrainSeconds = 20
	// DefaultTenantsByName bounds the metrics: a tenant has five series.
	DefaultTenantsByName = 200
)

// Config is the content of a bootstrap file (YAML or JSON).
type Config struct {
	// Node says who this data plane is.
	Node Node `json:"node"`
	// XDS is the control plane to follow.
	XDS XDS `json:"xds"`
	// StateDir is an existing, writable directory for the last good configuration. The gateway starts
	// from it when the control plane is away. Empty: nothing is kept, and a restarted gateway routes
	// nothing before it reaches its control plane.
	StateDir string `json:"stateDir,omitempty"`
	// HealthAddress is host:port for /healthz, /readyz and /metrics; an empty host means all addresses.
	HealthAddress string `json:"healthAddress,omitempty"`
	// MetricsAddress is host:port for /metrics, which HealthAddress serves no more then.
	MetricsAddress string `json:"metricsAddress,omitempty"`
	// MetricsTenants is how many tenants have metrics of their own, the first that had connections; all others are added up as
	// "other". Unset: DefaultTenantsByName.
	MetricsTenants *int `json:"metricsTenants,omitempty"`
	// DrainSeconds is how long open connections may go on after SIGTERM before they are closed.
	// Unset: DefaultDrainSeconds. Zero: they are closed at once.
	DrainSeconds *int `json:"drainSeconds,omitempty"`
	// HandoverSocket is a Unix socket, "@name" in the abstract name space, at which a process gives its listening sockets to the one
	// that replaces it, so that no connection attempt is lost. Empty: none.
	HandoverSocket string `json:"handoverSocket,omitempty"`
	// Limits protect the gateway. Those that are set here count instead of the KamajiGateway's.
	Limits Limits `json:"limits,omitzero"`
	// ProxyProtocol names load balancers in front of the gateway that say whose connection they pass on, instead of the KamajiGateway's.
	ProxyProtocol ProxyProtocol `json:"proxyProtocol,omitzero"`
}

// Limits of one data plane, all optional. Unset: what the control plane says, and where it says nothing, as below.
type Limits struct {
	// Connections that may be open at once. Else half the open files the process may have, less those it needs itself. The public
	// listener may have nine tenths, and all others together, too.
	Connections int `json:"connections,omitempty"`
	// PendingConnections may be without their ClientHello; of more, the oldest is closed. Else a quarter of Connections.
	PendingConnections int `json:"pendingConnections,omitempty"`
	// ConnectionAgeSeconds is how long a connection may last, by chance up to a fifth less. Clients come back and are spread over the
	// endpoints again, and those whose certificate has expired since do not. Else for ever.
	ConnectionAgeSeconds int `json:"connectionAgeSeconds,omitempty"`
}

// ProxyProtocol is who may use it.
type ProxyProtocol struct {
	// From are the networks (address/bits) of the load balancers. Connections from there must begin with a PROXY protocol header of
	// version 1 or 2, others must not.
	From []string `json:"from,omitempty"`
}

// HandoverSocket is the usual one of a gateway's data planes: in the abstract name space, which belongs to the network namespace, so that
// pods on the host network meet there.
func HandoverSocket(gateway string) string { return "@kamaji-gateway/" + gateway }

// Prefixes are the networks of a valid p.
func (p ProxyProtocol) Prefixes() []netip.Prefix {
	var out []netip.Prefix
	for _, from := range p.From {
		if prefix, err := netip.ParsePrefix(from); err == nil {
			out = append(out, prefix.Masked())
		}
	}
	return out
}

// TenantsByName is how many tenants have metrics of their own.
func (c *Config) TenantsByName() int {
	if c.MetricsTenants == nil {
		return DefaultTenantsByName
	}
	return *c.MetricsTenants
}

// Node identifies the data plane to the control plane.
type Node struct {
	// Gateway is the name of the KamajiGateway. It must match the URI spiffe://kamaji/gateway/<name> in
	// the client certificate, else the control plane refuses the stream.
	Gateway string `json:"gateway"`
	// Instance tells the data planes of one gateway apart. Empty: the host name, so that the pods of a
	// DaemonSet share one file.
	Instance string `json:"instance,omitempty"`
}

// ID is the xDS node id, <gateway>/<instance>.
func (n Node) ID() string { return route.NodeID(n.Gateway, n.Instance) }

// XDS says how to reach the control plane. The three files are read again for every connection
// attempt, so a rotated certificate is used from the next connection on, without a restart.
type XDS struct {
	// Address is host:port of the control plane's xDS server.
	Address string `json:"address"`
	// ServerName is the DNS name its certificate must carry. Empty: the host of Address.
	ServerName string `json:"serverName,omitempty"`
	// CAFile holds the PEM certificates that may sign the server's certificate.
	CAFile string `json:"caFile"`
	// CertFile and KeyFile hold the PEM client certificate chain and its private key.
	CertFile string `json:"certFile"`
	KeyFile  string `json:"keyFile"`
}

// Load reads, defaults and validates the file at path. Unknown fields are errors, so that a
// misspelt optional field is not silently ignored.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading bootstrap file: %w", err)
	}
	c, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("bootstrap file %s: %w", path, err)
	}
	return c, nil
}

// Parse is Load for bytes in memory.
func Parse(data []byte) (*Config, error) {
	var c Config
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		return nil, err
	}
	if c.HealthAddress == "" {
		c.HealthAddress = DefaultHealthAddress
	}
	if c.Node.Instance == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("node.instance is not set and the host name is unknown: %w", err)
		}
		c.Node.Instance = host
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &c, nil
}

// Marshal returns c as YAML, in the form Load reads.
func (c *Config) Marshal() ([]byte, error) { return yaml.Marshal(c) }

// Drain is how long open connections may go on after SIGTERM.
func (c *Config) Drain() time.Duration {
	if c.DrainSeconds == nil {
		return DefaultDrainSeconds * time.Second
	}
	return time.Duration(*c.DrainSeconds) * time.Second
}

// Validate returns every mistake in c at once, each with the path of its field. It looks at no file:
// certificates may be mounted after the gateway started.
func (c *Config) Validate() error {
	var errs []error
	require := func(field, value string) bool {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s: required", field))
		}
		return value != ""
	}
	hostPort := func(field, value string, needHost bool) {
		host, port, err := net.SplitHostPort(value)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %q is not host:port: %w", field, value, err))
		case port == "":
			errs = append(errs, fmt.Errorf("%s: %q has no port", field, value))
		case needHost && host == "":
			errs = append(errs, fmt.Errorf("%s: %q has no host", field, value))
		}
	}
	absolute := func(field, value string) {
		if value != "" && !filepath.IsAbs(value) {
			errs = append(errs, fmt.Errorf("%s: %q is not an absolute path", field, value))
		}
	}
	if require("node.gateway", c.Node.Gateway) && strings.Contains(c.Node.Gateway, "/") {
		errs = append(errs, fmt.Errorf("node.gateway: %q is not the name of a KamajiGateway", c.Node.Gateway))
	}
	if require("xds.address", c.XDS.Address) {
		hostPort("xds.address", c.XDS.Address, true)
	}
	for _, f := range []struct{ name, value string }{
		{"xds.caFile", c.XDS.CAFile}, {"xds.certFile", c.XDS.CertFile}, {"xds.keyFile", c.XDS.KeyFile},
	} {
		require(f.name, f.value)
		absolute(f.name, f.value)
	}
	absolute("stateDir", c.StateDir)
	if c.HealthAddress != "" {
		hostPort("healthAddress", c.HealthAddress, false)
	}
	if c.MetricsAddress != "" {
		hostPort("metricsAddress", c.MetricsAddress, false)
	}
	return errors.Join(append(errs, c.validateLimits()...)...)
}

func (c *Config) validateLimits() (errs []error) {
	negative := func(field string, n int) {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is negative", field, n))
		}
	}
	if c.DrainSeconds != nil {
		negative("drainSeconds", *c.DrainSeconds)
	}
	negative("metricsTenants", c.TenantsByName())
	negative("limits.connections", c.Limits.Connections)
	negative("limits.pendingConnections", c.Limits.PendingConnections)
	negative("limits.connectionAgeSeconds", c.Limits.ConnectionAgeSeconds)
	for i, from := range c.ProxyProtocol.From {
		if _, err := netip.ParsePrefix(from); err != nil {
			errs = append(errs, fmt.Errorf("proxyProtocol.from[%d]: %q is no network, want address/bits", i, from))
		}
	}
	return errs
}

// TLS reads the files as they are now and returns a client configuration for one connection:
// TLS 1.3 only, since both ends are ours.
func (x XDS) TLS() (*tls.Config, error) {
	ca, err := os.ReadFile(x.CAFile)
	if err != nil {
		return nil, fmt.Errorf("reading xds.caFile: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("xds.caFile %s holds no PEM certificate", x.CAFile)
	}
	cert, err := tls.LoadX509KeyPair(x.CertFile, x.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("loading xds.certFile %s with xds.keyFile %s: %w", x.CertFile, x.KeyFile, err)
	}
	name := x.ServerName
	if name == "" {
		if name, _, err = net.SplitHostPort(x.Address); err != nil {
			return nil, fmt.Errorf("xds.address: %w", err)
		}
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		RootCAs:      roots,
		Certificates: []tls.Certificate{cert},
		ServerName:   name,
		NextProtos:   []string{"h2"},
	}, nil
}
