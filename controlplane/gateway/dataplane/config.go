// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/ads"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/upstream"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds"
)

// defaultConnectTimeout is used for a cluster that sets none. Backends are one hop away; what does not
// answer within a second is gone.
const defaultConnectTimeout = time.Second

// types are the resource types the gateway follows, in the order in which a saved configuration is
// applied: where connections lead first, and the listeners that let them in last.
var types = []string{resourcev3.EndpointType, resourcev3.ClusterType, resourcev3.ListenerType}

// Apply is ads.Store: it brings one type of resources into effect and remembers what it did.
func (g *Gateway) Apply(typeURL string, changed []*discoveryv3.Resource, removed []string) error {
	g.configMu.Lock()
	defer g.configMu.Unlock()
	put, remove, err := g.applier(typeURL)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range changed {
		if err := put(r); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.GetName(), err))
			continue
		}
		g.state.put(typeURL, r)
	}
	for _, name := range removed {
		remove(name)
		g.state.remove(typeURL, name)
	}
	g.answered(typeURL)
	g.metrics.applied(typeURL, len(errs) == 0, g.routes.Len())
	return errors.Join(errs...)
}

// answered lets connections in once every type was given: a listener without its routes would tell
// clients that their names are unknown.
func (g *Gateway) answered(typeURL string) {
	delete(g.missing, typeURL)
	if len(g.missing) == 0 && !g.configured.Load() {
		g.listeners.hold = false
		g.listeners.retry()
		g.succession.begun(g.listeners)
		g.configured.Store(true)
	}
}

// Versions is ads.Store.
func (g *Gateway) Versions(typeURL string) map[string]string {
	g.configMu.Lock()
	defer g.configMu.Unlock()
	return g.state.versions(typeURL)
}

func (g *Gateway) applier(typeURL string) (put func(*discoveryv3.Resource) error, remove func(string), err error) {
	switch typeURL {
	case resourcev3.EndpointType:
		return decoded(g.putEndpoints), g.routes.RemoveBackend, nil
	case resourcev3.ClusterType:
		return decoded(g.putCluster), g.removeCluster, nil
	case resourcev3.ListenerType:
		return decoded(g.putListener), g.removeListener, nil
	}
	return nil, nil, fmt.Errorf("%s: %w", typeURL, ads.ErrUnknownType)
}

// decoded wraps f, which takes a resource of its own type, to take any.
func decoded[T any, P interface {
	*T
	proto.Message
}](f func(P) error) func(*discoveryv3.Resource) error {
	return func(r *discoveryv3.Resource) error {
		var message P = new(T)
		if err := r.GetResource().UnmarshalTo(message); err != nil {
			return fmt.Errorf("decoding: %w", err)
		}
		return f(message)
	}
}

func (g *Gateway) putEndpoints(a *endpointv3.ClusterLoadAssignment) error {
	var addresses []upstream.Address
	for _, locality := range a.GetEndpoints() {
		for _, e := range locality.GetLbEndpoints() {
			addr, err := address(e.GetEndpoint().GetAddress())
			if err != nil {
				return err
			}
			switch e.GetHealthStatus() {
			case corev3.HealthStatus_HEALTHY, corev3.HealthStatus_UNKNOWN:
				addresses = append(addresses, upstream.Address{AddrPort: addr})
			default:
				addresses = append(addresses, upstream.Address{AddrPort: addr, Draining: true})
			}
		}
	}
	g.routes.PutBackend(a.GetClusterName(), addresses)
	return nil
}

func (g *Gateway) putCluster(c *clusterv3.Cluster) error {
	key, err := route.ParseKey(c.GetName())
	if err != nil {
		return nil // for another data plane; the contract has such clusters ignored
	}
	settings := upstream.Settings{Backend: c.GetEdsClusterConfig().GetServiceName(), ConnectTimeout: defaultConnectTimeout}
	if settings.Backend == "" {
		return errors.New("eds_cluster_config.service_name is empty")
	}
	if t := c.GetConnectTimeout(); t != nil {
		if settings.ConnectTimeout = t.AsDuration(); settings.ConnectTimeout <= 0 {
			return fmt.Errorf("connect_timeout is %s", settings.ConnectTimeout)
		}
	}
	policy, err := xds.PolicyOf(c)
	if err != nil {
		return err
	}
	settings.MaxConnections, settings.Sources = int64(policy.MaxConnections), route.SortSources(policy.Sources)
	if key.Listener == route.Public {
		settings.Side = upstream.Public
	}
	before := g.routes.Lookup([]byte(c.GetName()))
	moved := before != nil && route.TenantOf(before.Settings().Backend) != route.TenantOf(settings.Backend)
	g.routes.PutRoute(c.GetName(), settings)
	if moved {
		g.relay.CloseGroup(&before.Group) // the name is another tenant's now
	}
	if key.Port != 0 {
		g.listeners.addPort(key)
	}
	return nil
}

// removeCluster ends the route with its open connections: the tenant is gone, or does not want them here.
func (g *Gateway) removeCluster(name string) {
	r := g.routes.RemoveRoute(name)
	if r == nil {
		return
	}
	if key, err := route.ParseKey(name); err == nil && key.Port != 0 {
		g.listeners.removePort(key)
	}
	g.relay.CloseGroup(&r.Group)
}

func (g *Gateway) putListener(l *listenerv3.Listener) error {
	addr, err := address(l.GetAddress())
	if err != nil {
		return err
	}
	var prefix netip.Prefix
	name := route.Listener(l.GetName())
	switch name {
	case route.Public, route.Private:
	case route.Prefix:
		if prefix, err = xds.PrefixOf(l); err != nil {
			return err
		}
	default:
		return errors.New("neither the public nor the private listener, nor that of the tenants' own addresses")
	}
	protection, err := xds.ProtectionOf(l)
	if err != nil {
		return err
	}
	g.protect(name, protection) // before a connection comes
	g.listeners.setShared(name, addr, prefix)
	return nil
}

func (g *Gateway) removeListener(name string) {
	g.listeners.unsetShared(route.Listener(name))
}

func address(a *corev3.Address) (netip.AddrPort, error) {
	socket := a.GetSocketAddress()
	ip, err := netip.ParseAddr(socket.GetAddress())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address is no IP address: %w", err)
	}
	port := socket.GetPortValue()
	if port == 0 || port > 65535 || socket.GetProtocol() != corev3.SocketAddress_TCP {
		return netip.AddrPort{}, fmt.Errorf("address %s has no TCP port, but %d", ip, port)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(port)), nil
}
