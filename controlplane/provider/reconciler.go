// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"
	"sigs.k8s.io/cluster-api/util"
	"sigs.k8s.io/cluster-api/util/annotations"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/apply"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// FieldOwner is the field manager of what this package writes.
const FieldOwner = "kamaji-control-plane-provider"

// Reconciler keeps KamajiControlPlanes.
type Reconciler struct {
	// Client reads from the manager's cache and writes.
	Client client.Client
	// Live reads from the API server; it tells foreign objects, which a filtered cache hides, from absent ones.
	Live client.Reader
	// Recorder sends events.
	Recorder events.EventRecorder
	// Probe makes one request with a kubeconfig; ProbeAPI in a manager.
	Probe func(ctx context.Context, kubeconfig []byte) error
}

// +kubebuilder:rbac:groups=controlplane.cluster.x-k8s.io,resources=kamajicontrolplanes,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=controlplane.cluster.x-k8s.io,resources=kamajicontrolplanes/status,verbs=patch
// +kubebuilder:rbac:groups=controlplane.cluster.x-k8s.io,resources=kamajicontrolplanes/finalizers,verbs=update
// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=clusters,verbs=get;list;watch
// +kubebuilder:rbac:groups=kamaji.clastix.io,resources=tenantcontrolplanes,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile makes one pass: pause, deletion, or the steps; then one patch of metadata and spec and one of status, each
// only when something changed.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	kcp := &controlplanev1.KamajiControlPlane{}
	if err := r.Client.Get(ctx, req.NamespacedName, kcp); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	before := kcp.DeepCopy()
	if _, moving := kcp.Annotations[clusterctlv1.DeleteForMoveAnnotation]; moving {
		return ctrl.Result{}, nil
	}
	cluster, err := r.cluster(ctx, kcp)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("finding the Cluster of KamajiControlPlane %s: %w", req, err)
	}
	if cluster == nil && kcp.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	if paused(cluster, kcp) {
		setPaused(kcp, true)
		return ctrl.Result{}, phase.PatchStatus(ctx, r.Client, before, kcp)
	}
	setPaused(kcp, false)
	outcome := r.pass(ctx, cluster, kcp)
	if err := r.save(ctx, before, kcp); err != nil {
		return ctrl.Result{}, err
	}
	return phase.Result(outcome)
}

// cluster is the Cluster that kcp belongs to: its owner, or, until Cluster API has made that so, which takes seconds,
// the one that both kcp's label and its own controlPlaneRef name. It is nil when there is none.
func (r *Reconciler) cluster(ctx context.Context, kcp *controlplanev1.KamajiControlPlane) (*clusterv1.Cluster, error) {
	owner, err := util.GetOwnerCluster(ctx, r.Client, kcp.ObjectMeta)
	if owner != nil || client.IgnoreNotFound(err) != nil {
		return owner, client.IgnoreNotFound(err)
	}
	name := kcp.Labels[clusterv1.ClusterNameLabel]
	if name == "" {
		return nil, nil
	}
	named := &clusterv1.Cluster{}
	if err := r.Client.Get(ctx, client.ObjectKey{Namespace: kcp.Namespace, Name: name}, named); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	if len(controlPlaneOf(ctx, named)) == 0 || named.Spec.ControlPlaneRef.Name != kcp.Name {
		return nil, nil
	}
	return named, nil
}

func (r *Reconciler) pass(ctx context.Context, cluster *clusterv1.Cluster, kcp *controlplanev1.KamajiControlPlane) error {
	if !kcp.DeletionTimestamp.IsZero() {
		return r.delete(ctx, kcp)
	}
	if controllerutil.AddFinalizer(kcp, controlplanev1.KamajiControlPlaneFinalizer) {
		// The pods live in this cluster: clusterctl move must not leave them behind.
		metav1.SetMetaDataAnnotation(&kcp.ObjectMeta, clusterctlv1.BlockMoveAnnotation, "true")
		observe(kcp, nil, time.Now())
		// Saved before anything is made; the write itself brings the object back.
		return nil
	}
	// Reported when what is wanted now can't be applied: what runs goes on running.
	tenant, err := own(ctx, r.Client, kcp)
	if err != nil {
		return err
	}
	s := &scope{cluster: cluster, kcp: kcp, tenant: tenant}
	err = phase.Run(ctx, &kcp.Status.Conditions, kcp.Generation, r.steps(), s)
	observe(kcp, s.tenant, time.Now())
	return err
}

// own is the TenantControlPlane of kcp, nil when there is none or when it belongs to somebody else.
func own(ctx context.Context, reader client.Reader, kcp *controlplanev1.KamajiControlPlane) (*kamajiv1alpha1.TenantControlPlane, error) {
	tenant := &kamajiv1alpha1.TenantControlPlane{}
	err := reader.Get(ctx, client.ObjectKeyFromObject(kcp), tenant)
	switch {
	case apierrors.IsNotFound(err), err == nil && !metav1.IsControlledBy(tenant, kcp):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading TenantControlPlane %s: %w", client.ObjectKeyFromObject(kcp), err)
	}
	return tenant, nil
}

// delete removes the TenantControlPlane and holds the finalizer until it is gone, pods and data included.
func (r *Reconciler) delete(ctx context.Context, kcp *controlplanev1.KamajiControlPlane) error {
	tenant, err := own(ctx, r.Client, kcp)
	if err == nil && tenant == nil {
		// The cache may not know yet what was made a moment ago.
		tenant, err = own(ctx, r.Live, kcp)
	}
	if err != nil {
		return err
	}
	if tenant == nil {
		controllerutil.RemoveFinalizer(kcp, controlplanev1.KamajiControlPlaneFinalizer)
		return nil
	}
	observe(kcp, tenant, time.Now())
	if tenant.DeletionTimestamp.IsZero() {
		if err := r.Client.Delete(ctx, tenant, client.Preconditions{UID: &tenant.UID}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting TenantControlPlane %s: %w", client.ObjectKeyFromObject(kcp), err)
		}
		r.Recorder.Eventf(kcp, tenant, corev1.EventTypeNormal, "Deleting", "Delete", "deleting TenantControlPlane %s", tenant.Name)
	}
	message := "waiting for TenantControlPlane " + tenant.Name + " to be gone"
	if c := meta.FindStatusCondition(tenant.Status.Conditions, kamajiv1alpha1.DeletingCondition); c != nil {
		message += ": " + c.Message
	}
	meta.SetStatusCondition(&kcp.Status.Conditions, metav1.Condition{
		Type: clusterv1.DeletingCondition, Status: metav1.ConditionTrue, Reason: clusterv1.DeletingReason, Message: message, ObservedGeneration: kcp.Generation,
	})
	return phase.Wait(clusterv1.DeletingReason, "%s", message)
}

// save writes what the pass changed: metadata and spec first, since the finalizer must precede what it guards.
func (r *Reconciler) save(ctx context.Context, before, after *controlplanev1.KamajiControlPlane) error {
	status := after.Status.DeepCopy()
	patch := client.MergeFrom(before)
	main := after.DeepCopy()
	main.Status = before.Status
	if data, err := patch.Data(main); err != nil {
		return fmt.Errorf("comparing KamajiControlPlane %s: %w", client.ObjectKeyFromObject(after), err)
	} else if string(data) != "{}" {
		if err := r.Client.Patch(ctx, main, patch); err != nil {
			return client.IgnoreNotFound(err)
		}
	}
	changed := before.DeepCopy()
	changed.Status = *status
	return phase.PatchStatus(ctx, r.Client, before, changed)
}

func (r *Reconciler) writer() *apply.Writer {
	return &apply.Writer{Client: r.Client, Live: r.Live, Owner: FieldOwner}
}

func paused(cluster *clusterv1.Cluster, kcp *controlplanev1.KamajiControlPlane) bool {
	if cluster == nil {
		return annotations.HasPaused(kcp)
	}
	return annotations.IsPaused(cluster, kcp)
}

func setPaused(kcp *controlplanev1.KamajiControlPlane, on bool) {
	c := metav1.Condition{Type: clusterv1.PausedCondition, Status: metav1.ConditionFalse, Reason: clusterv1.NotPausedReason, ObservedGeneration: kcp.Generation}
	if on {
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, clusterv1.PausedReason, "spec.paused of the Cluster or the annotation cluster.x-k8s.io/paused is set"
	}
	meta.SetStatusCondition(&kcp.Status.Conditions, c)
}
