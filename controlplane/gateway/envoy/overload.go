// SPDX-License-Identifier: Apache-2.0

package envoy

import (
	"cmp"
	"fmt"

	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	heapv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Names that Envoy gives to what it watches and does.
const (
	heapMonitor       = "envoy.resource_monitors.fixed_heap"
	connectionMonitor = "envoy.resource_monitors.global_downstream_max_connections"
	shrinkHeap        = "envoy.overload_actions.shrink_heap"
	stopAccepting     = "envoy.overload_actions.stop_accepting_connections"
	shedAccepts       = "envoy.load_shed_points.tcp_listener_accept"
)

// overload has Envoy refuse connections before it has no memory or files left for those it holds: first some, chosen at random, then all.
func (c Config) overload() (*overloadv3.OverloadManager, error) {
	heap, err := monitor(heapMonitor, &heapv3.FixedHeapConfig{MaxHeapSizeBytes: cmp.Or(c.MaxHeap, DefaultMaxHeap)})
	if err != nil {
		return nil, err
	}
	connections, err := monitor(connectionMonitor, &connectionsv3.DownstreamConnectionsConfig{
		MaxActiveDownstreamConnections: int64(cmp.Or(c.MaxConnections, DefaultMaxConnections)),
	})
	if err != nil {
		return nil, err
	}
	at := func(value float64) []*overloadv3.Trigger {
		return []*overloadv3.Trigger{{Name: heapMonitor, TriggerOneof: &overloadv3.Trigger_Threshold{Threshold: &overloadv3.ThresholdTrigger{Value: value}}}}
	}
	return &overloadv3.OverloadManager{
		RefreshInterval:  durationpb.New(overloadInterval),
		ResourceMonitors: []*overloadv3.ResourceMonitor{heap, connections},
		Actions: []*overloadv3.OverloadAction{
			{Name: shrinkHeap, Triggers: at(shrinkAt)},
			{Name: stopAccepting, Triggers: at(saturated)},
		},
		LoadshedPoints: []*overloadv3.LoadShedPoint{{Name: shedAccepts, Triggers: []*overloadv3.Trigger{{
			Name: heapMonitor, TriggerOneof: &overloadv3.Trigger_Scaled{Scaled: &overloadv3.ScaledTrigger{ScalingThreshold: shedAt, SaturationThreshold: saturated}},
		}}}},
	}, nil
}

func monitor(name string, config proto.Message) (*overloadv3.ResourceMonitor, error) {
	packed, err := anypb.New(config)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", name, err)
	}
	return &overloadv3.ResourceMonitor{Name: name, ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: packed}}, nil
}
