// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// TenantReconciler gives a TenantControlPlane its address on the KamajiGateway it names. It writes status.kamajiGateway and the condition
// GatewayAddressReady, and nothing else. It must run with one worker: two tenants may want the same host name.
type TenantReconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads from the API server, where a decision needs what the cache may not know yet.
	Live client.Reader
	// Recorder tells of decisions.
	Recorder events.EventRecorder
}

// +kubebuilder:rbac:groups=kamaji.clastix.io,resources=tenantcontrolplanes,verbs=get;list;watch
// +kubebuilder:rbac:groups=kamaji.clastix.io,resources=tenantcontrolplanes/status,verbs=get;patch
// +kubebuilder:rbac:groups=controlplane.cluster.x-k8s.io,resources=kamajigateways,verbs=get;list;watch
// +kubebuilder:rbac:groups=controlplane.cluster.x-k8s.io,resources=gatewayportleases,verbs=get;list;watch;create
// +kubebuilder:rbac:groups=controlplane.cluster.x-k8s.io,resources=gatewayportleases/status,verbs=get;patch

// Reconcile makes status.kamajiGateway say where the tenant is reached.
func (r *TenantReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	tcp := &kamajiv1alpha1.TenantControlPlane{}
	if err := r.Client.Get(ctx, req.NamespacedName, tcp); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if _, paused := tcp.Annotations[kamajiv1alpha1.PausedAnnotation]; paused {
		return ctrl.Result{}, nil
	}
	before := tcp.DeepCopy()
	if tcp.Spec.ControlPlane.KamajiGateway == nil {
		tcp.Status.KamajiGateway = nil
		meta.RemoveStatusCondition(&tcp.Status.Conditions, v1alpha2.GatewayAddressReadyCondition)
		return phase.Result(phase.PatchCurrentStatus(ctx, r.Client, before, tcp))
	}
	address, err := r.address(ctx, tcp)
	switch current := tcp.Status.KamajiGateway; {
	case err == nil:
		tcp.Status.KamajiGateway = address
	case current != nil && current.Name != tcp.Spec.ControlPlane.KamajiGateway.Name:
		// What it had on the former gateway is no longer its own. An address on this gateway stays: a tenant in use
		// doesn't lose its route because of a change that can't be made.
		tcp.Status.KamajiGateway = nil
	}
	phase.Report(&tcp.Status.Conditions, tcp.Generation, v1alpha2.GatewayAddressReadyCondition, err)
	// The list of conditions is replaced as a whole, and the engine has its own in it. A conflict is usual for a new
	// tenant, which it writes at the same moment.
	if err := phase.PatchCurrentStatus(ctx, r.Client, before, tcp); err != nil {
		return phase.Result(err)
	}
	r.announce(before, tcp)
	return phase.Result(err)
}

// address is where the tenant is reached, with a port claimed for it.
func (r *TenantReconciler) address(ctx context.Context, tcp *kamajiv1alpha1.TenantControlPlane) (*kamajiv1alpha1.KamajiGatewayStatus, error) {
	gateway, err := r.gateway(ctx, tcp.Spec.ControlPlane.KamajiGateway.Name)
	if err != nil {
		return nil, err
	}
	own, additional, err := hostnames(tcp, gateway)
	if err != nil {
		return nil, err
	}
	taken, err := r.unique(ctx, gateway, tcp, append([]string{own}, additional...))
	if taken != nil {
		r.contested(tcp, taken)
	}
	if err != nil {
		return nil, err
	}
	preferred := int32(0)
	if status := tcp.Status.KamajiGateway; status != nil && status.Name == gateway.Name {
		preferred = status.TenantPort
	}
	port, err := r.port(ctx, gateway, client.ObjectKeyFromObject(tcp), preferred)
	if err != nil {
		return nil, err
	}
	return published(gateway, tcp.Spec.ControlPlane.KamajiGateway, own, additional, port), nil
}

// gateway is the named one, if its addresses are its own.
func (r *TenantReconciler) gateway(ctx context.Context, name string) (*v1alpha2.KamajiGateway, error) {
	gateway := &v1alpha2.KamajiGateway{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: name}, gateway); apierrors.IsNotFound(err) {
		return nil, phase.Wait(v1alpha2.GatewayNotFoundReason, "there is no KamajiGateway %q; create it or name another in spec.controlPlane.kamajiGateway.name", name)
	} else if err != nil {
		return nil, fmt.Errorf("reading KamajiGateway %s: %w", name, err)
	}
	all := &v1alpha2.KamajiGatewayList{}
	if err := r.Client.List(ctx, all); err != nil {
		return nil, fmt.Errorf("listing KamajiGateways: %w", err)
	}
	return gateway, addressesValid(gateway, all.Items)
}
