// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"fmt"
	"net/netip"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

// Fields of a listener's metadata under PolicyMetadata, for the embedded data plane.
const (
	connectionsField = "connections"
	pendingField     = "pendingConnections"
	ageField         = "connectionAgeSeconds"
	proxiesField     = "proxies"
)

// Protection is what a listener says about how the data plane protects itself and whom it believes.
type Protection struct {
	// Limits are those of the whole data plane; all listeners have the same.
	Limits route.Limits
	// Proxies are load balancers in front of the listener.
	Proxies []netip.Prefix
}

// metadata is nil when nothing is set, as for a gateway that Envoy serves.
func (p Protection) metadata() *corev3.Metadata {
	fields := map[string]*structpb.Value{}
	for name, n := range map[string]float64{
		connectionsField: float64(p.Limits.Connections), pendingField: float64(p.Limits.PendingConnections), ageField: p.Limits.ConnectionAge.Seconds(),
	} {
		if n > 0 {
			fields[name] = structpb.NewNumberValue(n)
		}
	}
	if len(p.Proxies) > 0 {
		fields[proxiesField] = networks(p.Proxies)
	}
	if len(fields) == 0 {
		return nil
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{PolicyMetadata: {Fields: fields}}}
}

// ProtectionOf is what a listener of the control plane says. It fails for networks that are none: believing nobody would close the
// connections of a load balancer, believing all would let clients lie about themselves.
func ProtectionOf(l *listenerv3.Listener) (Protection, error) {
	fields := l.GetMetadata().GetFilterMetadata()[PolicyMetadata].GetFields()
	p := Protection{Limits: route.Limits{
		Connections: uint32(fields[connectionsField].GetNumberValue()), PendingConnections: uint32(fields[pendingField].GetNumberValue()),
		ConnectionAge: time.Duration(fields[ageField].GetNumberValue()) * time.Second,
	}}
	for _, value := range fields[proxiesField].GetListValue().GetValues() {
		network, err := netip.ParsePrefix(value.GetStringValue())
		if err != nil {
			return Protection{}, fmt.Errorf("metadata %s: %s: %w", PolicyMetadata, proxiesField, err)
		}
		p.Proxies = append(p.Proxies, network)
	}
	return p, nil
}

// networks as a list of strings.
func networks(list []netip.Prefix) *structpb.Value {
	out := &structpb.ListValue{}
	for _, network := range list {
		out.Values = append(out.Values, structpb.NewStringValue(network.String()))
	}
	return structpb.NewListValue(out)
}
