// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

// serviceIndex finds EndpointSlices by the name of their Service.
const serviceIndex = "gateway.service"

// Options of SetupWithManager.
type Options struct {
	// Address to listen on, host:port.
	Address string
	// TLS is the server's side of mutual TLS.
	TLS TLSFiles
	// Activator is the Service of the activator; without one no connection wakes a tenant.
	Activator types.NamespacedName
}

// activatorPort is the name of the port of the activator's Service.
const activatorPort = "activator"

// feed keeps State equal to the cluster.
type feed struct {
	client client.Client
	state  *State
	// activator is its Service, zero for none.
	activator types.NamespacedName
	// mu spans reading an object and writing it to state, so that an older read never overwrites a newer one.
	mu sync.Mutex
}

// +kubebuilder:rbac:groups=kamaji.clastix.io,resources=tenantcontrolplanes,verbs=get;list;watch
// +kubebuilder:rbac:groups=controlplane.cluster.x-k8s.io,resources=kamajigateways,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,namespace=kamaji-system,resources=endpointslices,verbs=get;list;watch

// SetupWithManager adds the xDS server and what feeds it, both without leader election, and returns the state that is served.
func SetupWithManager(ctx context.Context, mgr ctrl.Manager, options Options) (*State, error) {
	f := &feed{client: mgr.GetClient(), state: NewState(), activator: options.Activator}
	err := mgr.GetFieldIndexer().IndexField(ctx, &discoveryv1.EndpointSlice{}, serviceIndex, func(o client.Object) []string {
		return []string{o.GetLabels()[discoveryv1.LabelServiceName]}
	})
	if err != nil {
		return nil, fmt.Errorf("indexing EndpointSlices: %w", err)
	}
	everyReplica := controller.Options{NeedLeaderElection: ptr.To(false)}
	err = ctrl.NewControllerManagedBy(mgr).Named("xds-gateway").WithOptions(everyReplica).
		For(&v1alpha2.KamajiGateway{}).Complete(reconcile.Func(f.reconcileGateway))
	if err != nil {
		return nil, fmt.Errorf("watching KamajiGateways: %w", err)
	}
	err = ctrl.NewControllerManagedBy(mgr).Named("xds-tenant").WithOptions(everyReplica).
		For(&kamajiv1alpha1.TenantControlPlane{}).
		Watches(&discoveryv1.EndpointSlice{}, handler.EnqueueRequestsFromMapFunc(tenantOf)).
		Complete(reconcile.Func(f.reconcileTenant))
	if err != nil {
		return nil, fmt.Errorf("watching TenantControlPlanes: %w", err)
	}
	serve := &starter{feed: f, cache: mgr.GetCache(), server: Server{State: f.state, TLS: options.TLS}, address: options.Address}
	if err := mgr.Add(serve); err != nil {
		return nil, fmt.Errorf("adding the xDS server: %w", err)
	}
	return f.state, nil
}

// tenantOf maps an EndpointSlice to the tenant whose Service it belongs to; the two have the same name. The activator's is nobody's.
func tenantOf(_ context.Context, o client.Object) []reconcile.Request {
	name := o.GetLabels()[discoveryv1.LabelServiceName]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: name}}}
}

func (f *feed) reconcileGateway(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gateway := &v1alpha2.KamajiGateway{}
	if err := f.client.Get(ctx, req.NamespacedName, gateway); apierrors.IsNotFound(err) {
		f.state.RemoveGateway(req.Name)
		return reconcile.Result{}, nil
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading KamajiGateway %s: %w", req.Name, err)
	}
	g, err := gatewayOf(gateway)
	if err != nil {
		// The schema lets no such object through; retrying can't cure it.
		return reconcile.Result{}, reconcile.TerminalError(err)
	}
	return reconcile.Result{}, f.state.SetGateway(g)
}

func (f *feed) reconcileTenant(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if req.NamespacedName == f.activator {
		// No tenant has this name: its Service couldn't. A manager of one namespace may not even ask for it.
		return reconcile.Result{}, f.readActivator(ctx)
	}
	tcp := &kamajiv1alpha1.TenantControlPlane{}
	if err := f.client.Get(ctx, req.NamespacedName, tcp); apierrors.IsNotFound(err) {
		return reconcile.Result{}, f.state.RemoveTenant(req.Namespace, req.Name)
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading TenantControlPlane %s: %w", req, err)
	}
	t, ok, err := routed(tcp)
	if !ok {
		return reconcile.Result{}, errors.Join(err, f.state.RemoveTenant(req.Namespace, req.Name))
	}
	t.Wake = t.Wake && f.activator.Name != ""
	slices, err := f.slices(ctx, req.NamespacedName)
	if err != nil {
		return reconcile.Result{}, err
	}
	refused, err := f.state.SetTenant(t, Backends(slices))
	if len(refused) > 0 {
		log.FromContext(ctx).Info("routes belong to another tenant", "routes", refused)
	}
	return reconcile.Result{}, err
}

// readActivator takes over where the activator is. f.mu must be held.
func (f *feed) readActivator(ctx context.Context) error {
	slices, err := f.slices(ctx, f.activator)
	if err != nil {
		return err
	}
	return f.state.SetActivator(backends(slices, activatorPort)[activatorPort])
}

// slices are those of a Service.
func (f *feed) slices(ctx context.Context, service types.NamespacedName) ([]discoveryv1.EndpointSlice, error) {
	list := &discoveryv1.EndpointSliceList{}
	if err := f.client.List(ctx, list, client.InNamespace(service.Namespace), client.MatchingFields{serviceIndex: service.Name}); err != nil {
		return nil, fmt.Errorf("reading EndpointSlices of %s: %w", service, err)
	}
	return list.Items, nil
}

// gatewayOf is the pure form of a KamajiGateway.
func gatewayOf(g *v1alpha2.KamajiGateway) (route.Gateway, error) {
	public, err := netip.ParseAddr(g.Spec.PublicAddress)
	if err != nil {
		return route.Gateway{}, fmt.Errorf("reading spec.publicAddress: %w", err)
	}
	private, err := netip.ParseAddr(g.Spec.PrivateAddress)
	if err != nil {
		return route.Gateway{}, fmt.Errorf("reading spec.privateAddress: %w", err)
	}
	out := route.Gateway{Name: g.Name, PublicAddress: public, PrivateAddress: private, Port: uint16(g.Spec.Port)}
	if g.Spec.PrivatePrefix != "" {
		if out.PrivatePrefix, err = netip.ParsePrefix(g.Spec.PrivatePrefix); err != nil {
			return route.Gateway{}, fmt.Errorf("reading spec.privatePrefix: %w", err)
		}
	}
	out.AddressesOnly = g.Spec.TenantPorts != nil && g.Spec.TenantPorts.Listen == v1alpha2.TenantPortListenWithoutAddress
	if out.Public, err = policyOf(g.Spec.PublicPolicy); err != nil {
		return route.Gateway{}, fmt.Errorf("reading spec.publicPolicy: %w", err)
	}
	if out.Private, err = policyOf(g.Spec.PrivatePolicy); err != nil {
		return route.Gateway{}, fmt.Errorf("reading spec.privatePolicy: %w", err)
	}
	if l := g.Spec.Limits; l != nil {
		out.Limits = route.Limits{
			Connections: uint32(ptr.Deref(l.Connections, 0)), PendingConnections: uint32(ptr.Deref(l.PendingConnections, 0)),
			ConnectionAge: time.Duration(ptr.Deref(l.ConnectionAgeSeconds, 0)) * time.Second,
		}
	}
	if p := g.Spec.ProxyProtocol; p != nil {
		if out.PublicProxies, err = networksOf(p.PublicSources); err != nil {
			return route.Gateway{}, fmt.Errorf("reading spec.proxyProtocol.publicSources: %w", err)
		}
		if out.PrivateProxies, err = networksOf(p.PrivateSources); err != nil {
			return route.Gateway{}, fmt.Errorf("reading spec.proxyProtocol.privateSources: %w", err)
		}
	}
	return out, nil
}

// networksOf is the pure form of networks.
func networksOf(sources []kamajiv1alpha1.SourceCIDR) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, source := range sources {
		network, err := netip.ParsePrefix(string(source))
		if err != nil {
			return nil, err
		}
		out = append(out, network)
	}
	return route.SortSources(out), nil
}

// policyOf is the pure form of a policy. A network that can't be read is an error, not left out: that would let in too many or too few.
func policyOf(p *kamajiv1alpha1.GatewayPolicy) (route.Policy, error) {
	var out route.Policy
	if p == nil {
		return out, nil
	}
	var err error
	if out.Sources, err = networksOf(p.AllowedSources); err != nil {
		return route.Policy{}, fmt.Errorf("allowedSources: %w", err)
	}
	out.MaxConnections = uint32(ptr.Deref(p.MaxConnections, 0))
	return out, nil
}

// routed is the pure form of a tenant that has an address on a gateway. One whose policy can't be read has no routes: the schema lets
// no such tenant through, and retrying can't cure it.
func routed(tcp *kamajiv1alpha1.TenantControlPlane) (route.Tenant, bool, error) {
	spec, s := tcp.Spec.ControlPlane.KamajiGateway, tcp.Status.KamajiGateway
	if s == nil || s.Name == "" || s.TenantPort == 0 {
		return route.Tenant{}, false, nil
	}
	t := route.Tenant{Namespace: tcp.Namespace, Name: tcp.Name, Gateway: s.Name, Port: uint16(s.TenantPort), PrivateOnly: s.PublicAddress == "", Wake: tcp.WakeFor() > 0}
	var err error
	if t.Hostname, err = route.NormalizeHost(s.Hostname); err != nil {
		return route.Tenant{}, false, reconcile.TerminalError(fmt.Errorf("reading status.kamajiGateway.hostname: %w", err))
	}
	for _, name := range s.AdditionalHostnames {
		if host, err := route.NormalizeHost(name); err == nil {
			t.AdditionalHostnames = append(t.AdditionalHostnames, host)
		}
	}
	if s.TenantAddress != "" {
		if t.Address, err = netip.ParseAddr(s.TenantAddress); err != nil {
			return route.Tenant{}, false, reconcile.TerminalError(fmt.Errorf("reading status.kamajiGateway.tenantAddress: %w", err))
		}
	}
	if spec == nil {
		return t, true, nil
	}
	if t.Public, err = policyOf(spec.PublicPolicy); err != nil {
		return route.Tenant{}, false, reconcile.TerminalError(fmt.Errorf("reading spec.controlPlane.kamajiGateway.publicPolicy: %w", err))
	}
	if t.Private, err = policyOf(spec.PrivatePolicy); err != nil {
		return route.Tenant{}, false, reconcile.TerminalError(fmt.Errorf("reading spec.controlPlane.kamajiGateway.privatePolicy: %w", err))
	}
	return t, true, nil
}

// starter opens the port only once everything that existed at the start is in State: a data plane that reconnects
// would take what is missing as removed.
type starter struct {
	feed    *feed
	cache   cache.Cache
	server  Server
	address string
}

var _ manager.LeaderElectionRunnable = &starter{}

// NeedLeaderElection is false: every replica serves.
func (*starter) NeedLeaderElection() bool { return false }

// Start serves until ctx ends.
func (s *starter) Start(ctx context.Context) error {
	if !s.cache.WaitForCacheSync(ctx) {
		return nil
	}
	if err := s.feed.load(ctx); err != nil {
		return err
	}
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("listening for data planes: %w", err)
	}
	log.FromContext(ctx).Info("serving xDS", "address", lis.Addr().String())
	return s.server.Serve(ctx, lis)
}

func (f *feed) load(ctx context.Context) error {
	if f.activator.Name != "" {
		if _, err := f.reconcileTenant(ctx, reconcile.Request{NamespacedName: f.activator}); err != nil {
			return err
		}
	}
	gateways := &v1alpha2.KamajiGatewayList{}
	if err := f.client.List(ctx, gateways); err != nil {
		return fmt.Errorf("listing KamajiGateways: %w", err)
	}
	for i := range gateways.Items {
		_, err := f.reconcileGateway(ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&gateways.Items[i])})
		if errors.Is(err, reconcile.TerminalError(nil)) {
			// One that can't be served must not keep the others from being served; its controller reports it.
			continue
		}
		if err != nil {
			return err
		}
	}
	tenants := &kamajiv1alpha1.TenantControlPlaneList{}
	if err := f.client.List(ctx, tenants, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing TenantControlPlanes: %w", err)
	}
	for i := range tenants.Items {
		_, err := f.reconcileTenant(ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&tenants.Items[i])})
		if err != nil && !errors.Is(err, reconcile.TerminalError(nil)) {
			return err
		}
	}
	return nil
}
