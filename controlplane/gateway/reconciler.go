// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/apply"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// fieldOwner is the field manager of everything that this package writes.
const fieldOwner = "kamaji-gateway"

// Reconciler checks the addresses of a KamajiGateway and runs its data plane.
type Reconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Writer applies the data plane's objects.
	Writer *apply.Writer
	// Recorder tells of decisions.
	Recorder events.EventRecorder
	// Clock says what time it is.
	Clock clock.PassiveClock

	placement placement
	tally     *tally
}

// scope is one pass over one gateway.
type scope struct {
	gateway *v1alpha2.KamajiGateway
	// daemonSet is how the data plane runs, nil when it runs elsewhere.
	daemonSet *appsv1.DaemonSet
	// expires is when the certificate of the data plane does.
	expires time.Time
}

// +kubebuilder:rbac:groups=controlplane.cluster.x-k8s.io,resources=kamajigateways,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=controlplane.cluster.x-k8s.io,resources=kamajigateways/status,verbs=get;patch
// +kubebuilder:rbac:groups=apps,namespace=kamaji-system,resources=daemonsets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",namespace=kamaji-system,resources=configmaps,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=policy,namespace=kamaji-system,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=cert-manager.io,namespace=kamaji-system,resources=certificates,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// Owner references with blockOwnerDeletion need this where OwnerReferencesPermissionEnforcement is on.
// +kubebuilder:rbac:groups=controlplane.cluster.x-k8s.io,resources=kamajigateways/finalizers,verbs=update

// Reconcile brings the gateway's data plane and status up to date.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	gateway := &v1alpha2.KamajiGateway{}
	if err := r.Client.Get(ctx, req.NamespacedName, gateway); err != nil {
		if apierrors.IsNotFound(err) {
			certificateExpiry.DeleteLabelValues(req.Name)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	before := gateway.DeepCopy()
	if !gateway.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.delete(ctx, before, gateway)
	}
	if controllerutil.AddFinalizer(gateway, v1alpha2.GatewayFinalizer) {
		if err := r.Client.Patch(ctx, gateway, client.MergeFrom(before)); err != nil {
			return ctrl.Result{}, fmt.Errorf("adding the finalizer to KamajiGateway %s: %w", gateway.Name, err)
		}
		before = gateway.DeepCopy()
	}
	s := &scope{gateway: gateway}
	err := phase.Run(ctx, &gateway.Status.Conditions, gateway.Generation, []phase.Step[*scope]{
		{Condition: v1alpha2.GatewayAddressesValidCondition, Run: r.addresses},
		{Condition: v1alpha2.GatewayCertificateValidCondition, Run: r.apply},
		{Condition: v1alpha2.GatewayDataPlaneReadyCondition, Run: dataPlaneReady},
	}, s)
	if err == nil && gateway.Spec.DataPlane.Placement == v1alpha2.PlacementExternal {
		meta.SetStatusCondition(&gateway.Status.Conditions, external(gateway, r.placement.namespace))
	}
	gateway.Status.ObservedGeneration = gateway.Generation
	gateway.Status.Tenants = ptr.To(r.tally.count(gateway.Name))
	if err := phase.PatchStatus(ctx, r.Client, before, gateway); err != nil {
		return ctrl.Result{}, err
	}
	r.announce(before, gateway)
	if err == nil && !s.expires.IsZero() {
		return ctrl.Result{RequeueAfter: s.expires.Sub(r.Clock.Now())}, nil
	}
	return phase.Result(err)
}

// delete lets the gateway go when it has no tenants; until then its data plane stays, and the condition Deleting says why.
// Owner references take the data plane down afterwards.
func (r *Reconciler) delete(ctx context.Context, before, gateway *v1alpha2.KamajiGateway) error {
	if tenants := r.tally.count(gateway.Name); tenants > 0 {
		gateway.Status.Tenants = ptr.To(tenants)
		meta.SetStatusCondition(&gateway.Status.Conditions, metav1.Condition{
			Type: v1alpha2.GatewayDeletingCondition, Status: metav1.ConditionTrue, Reason: v1alpha2.GatewayInUseReason, ObservedGeneration: gateway.Generation,
			Message: fmt.Sprintf("%d tenants are reached through this gateway and would be cut off: delete them first", tenants),
		})
		return phase.PatchStatus(ctx, r.Client, before, gateway)
	}
	if !controllerutil.RemoveFinalizer(gateway, v1alpha2.GatewayFinalizer) {
		return nil
	}
	return client.IgnoreNotFound(r.Client.Patch(ctx, gateway, client.MergeFrom(before)))
}

func (r *Reconciler) addresses(ctx context.Context, s *scope) error {
	all := &v1alpha2.KamajiGatewayList{}
	if err := r.Client.List(ctx, all); err != nil {
		return fmt.Errorf("listing KamajiGateways: %w", err)
	}
	return addressesValid(s.gateway, all.Items)
}

// apply applies what the data plane needs, with its certificate, and looks at what became of that.
func (r *Reconciler) apply(ctx context.Context, s *scope) error {
	objects, err := dataPlane(s.gateway, r.placement)
	if err != nil {
		return err
	}
	var certificate *unstructured.Unstructured
	for _, object := range objects {
		switch found := object.(type) {
		case *appsv1.DaemonSet:
			s.daemonSet = found
		case *unstructured.Unstructured:
			certificate = found
		}
	}
	if err := r.sync(ctx, s.gateway, objects, s.daemonSet); err != nil {
		return fmt.Errorf("running the data plane: %w", err)
	}
	s.expires, err = certificateValid(certificate, r.Clock.Now())
	if !s.expires.IsZero() {
		certificateExpiry.WithLabelValues(s.gateway.Name).Set(float64(s.expires.Unix()))
	}
	return err
}

// dataPlaneReady looks at how the data plane runs.
func dataPlaneReady(_ context.Context, s *scope) error {
	if s.daemonSet == nil {
		s.gateway.Status.DataPlane = nil
		return nil
	}
	of := s.daemonSet.Status
	s.gateway.Status.DataPlane = &v1alpha2.GatewayDataPlaneStatus{
		Desired: of.DesiredNumberScheduled, Ready: of.NumberReady, Updated: of.UpdatedNumberScheduled,
	}
	return running(s.daemonSet)
}

// sync applies objects, of which ds is the DaemonSet or nil, and removes what is no longer wanted. ConfigMaps of former versions stay
// until their pods are gone: without its file the container of such a pod could not start again.
func (r *Reconciler) sync(ctx context.Context, g *v1alpha2.KamajiGateway, objects []client.Object, ds *appsv1.DaemonSet) error {
	certificates := &unstructured.UnstructuredList{}
	certificates.SetGroupVersionKind(certificateKind.GroupVersion().WithKind(certificateKind.Kind + "List"))
	set := apply.Set{
		Name: dataPlaneName(g.Name), Namespace: r.placement.namespace,
		Lists: []client.ObjectList{&appsv1.DaemonSetList{}, &policyv1.PodDisruptionBudgetList{}, certificates},
	}
	set.Label(objects)
	if _, err := r.Writer.All(ctx, objects); err != nil {
		return err
	}
	if ds == nil || replaced(ds) {
		set.Lists = append(set.Lists, &corev1.ConfigMapList{})
	}
	_, err := r.Writer.Prune(ctx, set, objects)
	return err
}

// replaced tells whether no pod of a former version is left: as long as one runs on a node, that node doesn't count as updated.
func replaced(ds *appsv1.DaemonSet) bool {
	return ds.Status.ObservedGeneration >= ds.Generation && ds.Status.UpdatedNumberScheduled >= ds.Status.DesiredNumberScheduled
}

// running tells from its DaemonSet whether a data plane takes connections.
func running(ds *appsv1.DaemonSet) error {
	switch {
	case ds.Status.ObservedGeneration < ds.Generation:
		return phase.Wait(v1alpha2.GatewayDataPlaneNotReadyReason, "DaemonSet %s has not been looked at yet", ds.Name)
	case ds.Status.DesiredNumberScheduled == 0:
		return phase.Wait(v1alpha2.GatewayNoNodeReason, "no node matches spec.dataPlane.nodeSelector and tolerations; label the nodes that carry the addresses")
	case ds.Status.NumberReady == 0:
		return phase.Wait(v1alpha2.GatewayDataPlaneNotReadyReason, "no pod of DaemonSet %s/%s is ready", ds.Namespace, ds.Name)
	}
	return nil
}

// external says that a data plane outside is nobody's business here.
func external(g *v1alpha2.KamajiGateway, namespace string) metav1.Condition {
	return metav1.Condition{
		Type: v1alpha2.GatewayDataPlaneReadyCondition, Status: metav1.ConditionUnknown, Reason: v1alpha2.GatewayExternalReason,
		Message:            fmt.Sprintf("the data plane runs outside and is not observed; its client certificate is in Secret %s/%s", namespace, xdsSecretName(g.Name)),
		ObservedGeneration: g.Generation,
	}
}
