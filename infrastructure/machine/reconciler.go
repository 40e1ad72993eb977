// SPDX-License-Identifier: Apache-2.0

// Package machine gives each RackMachine a host: it waits for what Cluster API has to bring, takes a host by creating a
// RackHostClaim, reports what the host controller makes of it, and releases the claim at the end. It never talks to a host.
package machine

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"
	"sigs.k8s.io/cluster-api/util"
	"sigs.k8s.io/cluster-api/util/finalizers"
	"sigs.k8s.io/cluster-api/util/labels"
	"sigs.k8s.io/cluster-api/util/paused"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=rackmachines,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=rackmachines/status,verbs=patch
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=rackmachines/finalizers,verbs=update
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=rackhosts,verbs=get;list;watch
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=rackhostclaims,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=clusters;machines,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Options tune the reconciler; the zero value takes the defaults.
type Options struct {
	// WatchFilter is the value of the label cluster.x-k8s.io/watch-filter that machines must have; empty takes all.
	WatchFilter string
	// Concurrency is how many machines are worked on at a time; 0 means 10.
	Concurrency int
}

// Reconciler reconciles RackMachines.
type Reconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads from the API server: a claim just made may not be in the cache yet, and taking a second host
	// would be worse than a request more.
	Live client.Reader
	// Recorder for events on RackMachines.
	Recorder events.EventRecorder

	options Options
}

// scope is what one pass works on.
type scope struct {
	rackMachine *infrav1.RackMachine
	// machine is the owner, nil when there is none (any more).
	machine *clusterv1.Machine
	// cluster is nil when it is not there (any more).
	cluster *clusterv1.Cluster
	// claim and host are found by the step HostClaimed.
	claim *infrav1.RackHostClaim
}

// up is what happens to a machine, in order.
func (r *Reconciler) up() []phase.Step[*scope] {
	return []phase.Step[*scope]{
		{Condition: infrav1.MachineClusterReadyCondition, Run: r.clusterReady},
		{Condition: infrav1.MachineBootstrapDataReadyCondition, Run: r.bootstrapDataReady},
		{Condition: infrav1.MachineHostClaimedCondition, Run: r.hostClaimed},
		{Condition: infrav1.MachineBootstrappedCondition, Run: r.bootstrapped},
	}
}

// down is what happens at deletion. It needs neither Machine, nor Cluster, nor Secrets.
func (r *Reconciler) down() []phase.Step[*scope] {
	return []phase.Step[*scope]{{Condition: infrav1.MachineHostReleasedCondition, Run: r.hostReleased}}
}

// Reconcile brings one RackMachine as far as it gets without waiting.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	rackMachine := &infrav1.RackMachine{}
	if err := r.Client.Get(ctx, req.NamespacedName, rackMachine); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if r.ignored(rackMachine) {
		return ctrl.Result{}, nil
	}
	s, err := r.read(ctx, rackMachine)
	if err != nil {
		return ctrl.Result{}, err
	}
	if isPaused, _, err := paused.EnsurePausedCondition(ctx, r.Client, s.cluster, rackMachine); err != nil || isPaused {
		return ctrl.Result{}, err
	}
	if _, err := finalizers.EnsureFinalizer(ctx, r.Client, rackMachine, infrav1.MachineFinalizer); err != nil {
		return ctrl.Result{}, err
	}
	steps := r.up()
	if !rackMachine.DeletionTimestamp.IsZero() {
		steps = r.down()
	}
	before := rackMachine.DeepCopy()
	outcome := phase.Run(ctx, &rackMachine.Status.Conditions, rackMachine.Generation, steps, s)
	if outcome == nil && !rackMachine.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.letGo(ctx, rackMachine)
	}
	if err := phase.PatchStatus(ctx, r.Client, before, rackMachine); err != nil {
		return ctrl.Result{}, err
	}
	return phase.Result(outcome)
}

// ignored tells whether the machine is another manager's, or is being taken out of this management cluster by
// clusterctl move: the deletion of the object then means nothing for the host.
func (r *Reconciler) ignored(rackMachine *infrav1.RackMachine) bool {
	if r.options.WatchFilter != "" && !labels.HasWatchLabel(rackMachine, r.options.WatchFilter) {
		return true
	}
	_, moved := rackMachine.Annotations[clusterctlv1.DeleteForMoveAnnotation]
	return moved && !rackMachine.DeletionTimestamp.IsZero()
}

func (r *Reconciler) read(ctx context.Context, rackMachine *infrav1.RackMachine) (*scope, error) {
	s := &scope{rackMachine: rackMachine}
	name := client.ObjectKeyFromObject(rackMachine)
	machine, err := util.GetOwnerMachine(ctx, r.Client, rackMachine.ObjectMeta)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading the Machine of RackMachine %s: %w", name, err)
	} else if err == nil {
		s.machine = machine
	}
	clusterName := rackMachine.Labels[clusterv1.ClusterNameLabel]
	if s.machine != nil {
		clusterName = s.machine.Spec.ClusterName
	}
	if clusterName == "" {
		return s, nil
	}
	cluster := &clusterv1.Cluster{}
	switch err := r.Client.Get(ctx, client.ObjectKey{Namespace: rackMachine.Namespace, Name: clusterName}, cluster); {
	case err == nil:
		s.cluster = cluster
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("reading the Cluster of RackMachine %s: %w", name, err)
	}
	return s, nil
}

func (r *Reconciler) letGo(ctx context.Context, rackMachine *infrav1.RackMachine) error {
	updated := rackMachine.DeepCopy()
	if !controllerutil.RemoveFinalizer(updated, infrav1.MachineFinalizer) {
		return nil
	}
	patch := client.MergeFromWithOptions(rackMachine, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, updated, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("removing the finalizer of RackMachine %s: %w", client.ObjectKeyFromObject(rackMachine), err)
	}
	return nil
}
