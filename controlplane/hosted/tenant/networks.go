// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
)

// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get

// Policies is what the NetworkPolicies of tenants are made from. Closed is required.
type Policies struct {
	// Closed returns the networks that pods of control planes may not connect to, in
	// an order that stays. It fails when the context ends before they are known.
	Closed func(context.Context) ([]netip.Prefix, error)
	// Nodes tells that Closed follows Nodes: when one comes, goes or changes its addresses, tenants are looked at.
	Nodes bool
	// Scrapers selects the namespaces whose pods may read metrics; nil for none.
	Scrapers *metav1.LabelSelector
}

// network is the input of the NetworkPolicy, nil if there shall be none.
func (r *Reconciler) network(ctx context.Context) (*desired.Network, error) {
	if r.Policies == nil {
		return nil, nil
	}
	closed, err := r.Policies.Closed(ctx)
	if err != nil {
		return nil, err
	}
	return &desired.Network{Closed: closed, Scrapers: r.Policies.Scrapers}, nil
}

// ManagementNetworks returns what can be found out about the management cluster's
// networks: addresses and pod networks of its nodes, followed by a watch, and the
// addresses of its API server, read once. What no Node tells is not among them: pod
// networks that the network plugin hands out by itself, and virtual addresses. The
// cache's transform must keep what SlimNode keeps.
func ManagementNetworks(ctx context.Context, nodes cache.Informers, live client.Reader) (func(context.Context) ([]netip.Prefix, error), error) {
	found := &networks{nodes: map[types.UID][]netip.Prefix{}}
	slice := &discoveryv1.EndpointSlice{}
	key := client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: "kubernetes"}
	if err := live.Get(ctx, key, slice); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading EndpointSlice %s: %w", key, err)
	}
	for _, e := range slice.Endpoints {
		for _, a := range e.Addresses {
			found.servers = appendAddress(found.servers, a)
		}
	}
	informer, err := nodes.GetInformer(ctx, &corev1.Node{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watching nodes: %w", err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { found.see(object, false) },
		UpdateFunc: func(_, object any) { found.see(object, false) },
		DeleteFunc: func(object any) { found.see(object, true) },
	})
	if err != nil {
		return nil, fmt.Errorf("watching nodes: %w", err)
	}
	return func(ctx context.Context) ([]netip.Prefix, error) {
		// A matter of milliseconds after a start: a shorter list would be written.
		if !toolscache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
			return nil, fmt.Errorf("reading the management cluster's nodes: %w", ctx.Err())
		}
		return found.all(), nil
	}, nil
}

// networks are the prefixes of each node, and of API servers.
type networks struct {
	mu      sync.Mutex
	nodes   map[types.UID][]netip.Prefix
	servers []netip.Prefix
	// sorted are all of them, nil when it is to be made anew.
	sorted []netip.Prefix
}

func (n *networks) see(object any, gone bool) {
	if lost, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = lost.Obj
	}
	node, ok := object.(*corev1.Node)
	if !ok {
		return
	}
	has := networksOf(node)
	n.mu.Lock()
	defer n.mu.Unlock()
	if gone {
		has = nil
	}
	if !slices.Equal(n.nodes[node.UID], has) {
		n.sorted = nil
	}
	if n.nodes[node.UID] = has; gone {
		delete(n.nodes, node.UID)
	}
}

// networksOf are a node's addresses and the networks of its pods.
func networksOf(node *corev1.Node) []netip.Prefix {
	var has []netip.Prefix
	for _, a := range node.Status.Addresses {
		has = appendAddress(has, a.Address)
	}
	for _, c := range node.Spec.PodCIDRs {
		if p, err := netip.ParsePrefix(c); err == nil {
			has = append(has, p.Masked())
		}
	}
	return has
}

// networksChanged leaves the events of nodes that change what is closed, but those of a start, when every tenant is looked at.
func networksChanged() predicate.Predicate {
	tells := func(o client.Object) bool {
		node, ok := o.(*corev1.Node)
		return ok && len(networksOf(node)) > 0
	}
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return !e.IsInInitialList && tells(e.Object) },
		DeleteFunc: func(e event.DeleteEvent) bool { return tells(e.Object) },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*corev1.Node)
			after, alsoOK := e.ObjectNew.(*corev1.Node)
			return ok && alsoOK && !slices.Equal(networksOf(before), networksOf(after))
		},
	}
}

// followPace is the time between two tenants that are looked at because of a node. Each has a policy to be written.
const followPace = 50 * time.Millisecond

// allTenants brings them back one after the other; more nodes meanwhile change nothing.
func (r *Reconciler) allTenants() handler.EventHandler {
	follow := func(ctx context.Context, q requestQueue) {
		var tenants kamajiv1alpha1.TenantControlPlaneList
		if err := r.Client.List(ctx, &tenants, client.UnsafeDisableDeepCopy); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "listing the tenants whose policies follow nodes")
			return
		}
		for i, request := range requests(tenants.Items) {
			q.AddAfter(request, time.Duration(i+1)*followPace)
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, _ event.CreateEvent, q requestQueue) { follow(ctx, q) },
		UpdateFunc: func(ctx context.Context, _ event.UpdateEvent, q requestQueue) { follow(ctx, q) },
		DeleteFunc: func(ctx context.Context, _ event.DeleteEvent, q requestQueue) { follow(ctx, q) },
	}
}

// appendAddress adds an address as a network of its own. Names are left out.
func appendAddress(to []netip.Prefix, text string) []netip.Prefix {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return to
	}
	return append(to, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
}

// all are the networks in order. The result is not to be changed.
func (n *networks) all() []netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sorted == nil {
		n.sorted = slices.Clone(n.servers)
		for _, has := range n.nodes {
			n.sorted = append(n.sorted, has...)
		}
		slices.SortFunc(n.sorted, netip.Prefix.Compare)
		n.sorted = slices.Compact(n.sorted)
	}
	return n.sorted
}
