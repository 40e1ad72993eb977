// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// +kubebuilder:rbac:groups="",resources=nodes,verbs=get;list;watch

// StartsByCPU returns how many control planes may start at once, by the processors
// of the nodes that take pods. It follows the nodes by a watch, so that an answer
// costs nothing however many there are.
func StartsByCPU(ctx context.Context, nodes cache.Informers) (func() int, error) {
	informer, err := nodes.GetInformer(ctx, &corev1.Node{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watching nodes: %w", err)
	}
	counted := &processors{}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { counted.see(object, false) },
		UpdateFunc: func(_, object any) { counted.see(object, false) },
		DeleteFunc: func(object any) { counted.see(object, true) },
	})
	if err != nil {
		return nil, fmt.Errorf("watching nodes: %w", err)
	}
	return counted.starts, nil
}

// SlimNode drops what is needed neither to count processors nor for
// ManagementNetworks, so that the cache stays small whatever labels, images and volumes the nodes have.
func SlimNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	slim := &corev1.Node{TypeMeta: node.TypeMeta}
	slim.Name, slim.UID, slim.ResourceVersion = node.Name, node.UID, node.ResourceVersion
	slim.Spec.Unschedulable, slim.Spec.PodCIDRs = node.Spec.Unschedulable, node.Spec.PodCIDRs
	slim.Status.Addresses = node.Status.Addresses
	slim.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: node.Status.Allocatable[corev1.ResourceCPU]}
	return slim, nil
}

// processors adds up the schedulable processors of nodes, in thousandths.
type processors struct {
	mu    sync.Mutex
	nodes map[types.UID]int64
	total int64
}

func (p *processors) see(object any, gone bool) {
	if lost, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = lost.Obj
	}
	node, ok := object.(*corev1.Node)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total -= p.nodes[node.UID]
	delete(p.nodes, node.UID)
	if gone || node.Spec.Unschedulable {
		return
	}
	if p.nodes == nil {
		p.nodes = map[types.UID]int64{}
	}
	p.nodes[node.UID] = node.Status.Allocatable.Cpu().MilliValue()
	p.total += p.nodes[node.UID]
}

func (p *processors) starts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(fewestStarts, int(p.total*startsPerCPU/1000))
}
