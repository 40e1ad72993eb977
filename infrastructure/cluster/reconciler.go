// SPDX-License-Identifier: Apache-2.0

// Package cluster reconciles RackClusters. There is nothing to build: a RackCluster is provisioned whether or not the
// Cluster has an endpoint, at once or as soon as a hosted control plane answers. What it adds is the failure domains
// that the hosts of its namespace are in.
package cluster

import (
	"context"
	"fmt"
	"time"

	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"
	"sigs.k8s.io/cluster-api/util"
	"sigs.k8s.io/cluster-api/util/annotations"
	"sigs.k8s.io/cluster-api/util/labels"
	"sigs.k8s.io/cluster-api/util/paused"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/inventory"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=rackclusters,verbs=get;list;watch
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=rackclusters/status,verbs=patch
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=rackhosts,verbs=get;list;watch
// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=clusters,verbs=get;list;watch
// +kubebuilder:rbac:groups=controlplane.cluster.x-k8s.io,resources=kamajicontrolplanes,verbs=get

// Options tune the reconciler; the zero value takes the defaults.
type Options struct {
	// WatchFilter is the value of the label cluster.x-k8s.io/watch-filter that clusters must have; empty takes all.
	WatchFilter string
	// Concurrency is how many clusters are worked on at a time; 0 means 10.
	Concurrency int
	// ControlPlanePatience is how long after its creation a RackCluster waits for a hosted control plane; 0 means 30 s.
	ControlPlanePatience time.Duration
}

// Reconciler reconciles RackClusters.
type Reconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads control planes from the API server, which are not watched.
	Live    client.Reader
	options Options
}

type scope struct {
	cluster     *clusterv1.Cluster
	rackCluster *infrav1.RackCluster
	now         time.Time
}

func (r *Reconciler) steps() []phase.Step[*scope] {
	return []phase.Step[*scope]{
		{Condition: infrav1.ClusterFailureDomainsCondition, Run: r.failureDomains},
		{Condition: infrav1.ClusterProvisionedCondition, Run: r.provisioned},
	}
}

// Reconcile publishes one RackCluster. It needs no finalizer, since it has no side effect.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	rackCluster := &infrav1.RackCluster{}
	if err := r.Client.Get(ctx, req.NamespacedName, rackCluster); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if r.ignored(rackCluster) {
		return ctrl.Result{}, nil
	}
	cluster, err := util.GetOwnerCluster(ctx, r.Client, rackCluster.ObjectMeta)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("reading the Cluster of RackCluster %s: %w", req, err)
	}
	if cluster == nil || err != nil {
		return ctrl.Result{}, nil
	}
	if isPaused, _, err := paused.EnsurePausedCondition(ctx, r.Client, cluster, rackCluster); err != nil || isPaused {
		return ctrl.Result{}, err
	}
	before := rackCluster.DeepCopy()
	s := &scope{cluster: cluster, rackCluster: rackCluster, now: time.Now()}
	outcome := phase.Run(ctx, &rackCluster.Status.Conditions, rackCluster.Generation, r.steps(), s)
	if err := phase.PatchStatus(ctx, r.Client, before, rackCluster); err != nil {
		return ctrl.Result{}, err
	}
	return phase.Result(outcome)
}

func (r *Reconciler) ignored(rackCluster *infrav1.RackCluster) bool {
	if r.options.WatchFilter != "" && !labels.HasWatchLabel(rackCluster, r.options.WatchFilter) {
		return true
	}
	_, moved := rackCluster.Annotations[clusterctlv1.DeleteForMoveAnnotation]
	return moved || annotations.IsExternallyManaged(rackCluster) || !rackCluster.DeletionTimestamp.IsZero()
}

// failureDomains are for workers; the control plane runs elsewhere.
func (r *Reconciler) failureDomains(ctx context.Context, s *scope) error {
	hosts := &infrav1.RackHostList{}
	if err := r.Client.List(ctx, hosts, client.InNamespace(s.rackCluster.Namespace)); err != nil {
		return fmt.Errorf("listing the RackHosts of namespace %s: %w", s.rackCluster.Namespace, err)
	}
	var domains []clusterv1.FailureDomain
	for _, name := range inventory.FailureDomains(hosts.Items) {
		domains = append(domains, clusterv1.FailureDomain{Name: name, ControlPlane: ptr.To(false)})
	}
	s.rackCluster.Status.FailureDomains = domains
	return nil
}
