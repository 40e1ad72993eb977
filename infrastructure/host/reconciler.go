// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"
	"sigs.k8s.io/cluster-api/util/finalizers"
	"sigs.k8s.io/cluster-api/util/labels"
	"sigs.k8s.io/cluster-api/util/paused"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// Secrets are read one by one and never listed, watched or cached.
//
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=rackhosts,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=rackhosts/status,verbs=patch
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=rackhostclaims,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=clusters,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Options tune the reconciler; the zero value takes the defaults.
type Options struct {
	// WatchFilter is the value of the label cluster.x-k8s.io/watch-filter that hosts must have; empty takes all.
	WatchFilter string
	// Concurrency is how many hosts are worked on at a time; 0 means 50, since most of the time is spent waiting for
	// hosts, and one that is dead takes a worker until DialTimeout.
	Concurrency int
	// PollInterval is how often a running operation is looked at; 0 means 1 s.
	PollInterval time.Duration
	// ReconnectInterval is how long to wait after a host gave no answer; 0 means 5 s, about the time that sshd or a
	// network needs to come back.
	ReconnectInterval time.Duration
	// RetryInterval is how long to wait for somebody to correct what a host or a Secret lacks; 0 means 30 s, which
	// doesn't look like an attack to a host that counts failed logins.
	RetryInterval time.Duration
	// ReleaseTimeout is how long a deleted claim waits for proof that its host is clean before the host is
	// quarantined and the machine let go; 0 means 10 min.
	ReleaseTimeout time.Duration
	// DialTimeout bounds the making of a connection; 0 means 10 s.
	DialTimeout time.Duration
	// CallTimeout bounds one call to a host, dialling included; 0 means 30 s.
	CallTimeout time.Duration
	// Clock for time limits and timestamps; nil means the real one.
	Clock clock.PassiveClock
}

func (o Options) withDefaults() Options {
	o.Concurrency = orDefault(o.Concurrency, 50)
	o.PollInterval = orDefault(o.PollInterval, time.Second)
	o.ReconnectInterval = orDefault(o.ReconnectInterval, 5*time.Second)
	o.DialTimeout = orDefault(o.DialTimeout, 10*time.Second)
	o.RetryInterval = orDefault(o.RetryInterval, 30*time.Second)
	o.ReleaseTimeout = orDefault(o.ReleaseTimeout, 10*time.Minute)
	o.CallTimeout = orDefault(o.CallTimeout, 30*time.Second)
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return o
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// Reconciler moves RackHosts through the phases of this package's documentation.
type Reconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads from the API server: Secrets, which are not cached, and the claim right before delivery.
	Live client.Reader
	// Dial opens connections to hosts.
	Dial driver.Dialer
	// Recorder for events on hosts.
	Recorder events.EventRecorder

	options  Options
	sessions sessions
}

// scope is what one pass works on.
type scope struct {
	host *infrav1.RackHost
	// claim of the host's name, nil when there is none.
	claim *infrav1.RackHostClaim
	// cluster of the claim, nil when there is none.
	cluster *clusterv1.Cluster
	// facts and report of this pass's inspection.
	facts  driver.Facts
	report driver.Report
}

// Reconcile brings one host as far as it gets without waiting.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	host := &infrav1.RackHost{}
	if err := r.Client.Get(ctx, req.NamespacedName, host); err != nil {
		r.sessions.drop(req.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	s, err := r.read(ctx, host)
	if err != nil || r.ignored(s) {
		return ctrl.Result{}, err
	}
	isPaused, wrote, err := paused.EnsurePausedCondition(ctx, r.Client, s.cluster, host)
	switch {
	case err != nil || isPaused:
		return ctrl.Result{}, err
	case wrote:
		// What was read is of an old version now.
		return phase.Again(), nil
	}
	if !host.DeletionTimestamp.IsZero() && s.claim == nil {
		return ctrl.Result{}, r.forget(ctx, host)
	}
	if _, err := finalizers.EnsureFinalizer(ctx, r.Client, host, infrav1.HostFinalizer); err != nil {
		return ctrl.Result{}, err
	}
	before := host.DeepCopy()
	outcome := r.advance(ctx, s)
	summarize(s, outcome)
	if err := phase.PatchCurrentStatus(ctx, r.Client, before, host); err != nil {
		return phase.Result(err)
	}
	result, err := phase.Result(outcome)
	if result.RequeueAfter != r.options.PollInterval {
		r.sessions.drop(req.NamespacedName)
	}
	return result, err
}

func (r *Reconciler) read(ctx context.Context, host *infrav1.RackHost) (*scope, error) {
	s := &scope{host: host}
	claim := &infrav1.RackHostClaim{}
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(host), claim)
	if apierrors.IsNotFound(err) {
		return s, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading RackHostClaim %s: %w", client.ObjectKeyFromObject(host), err)
	}
	s.claim = claim
	cluster := &clusterv1.Cluster{}
	key := client.ObjectKey{Namespace: claim.Namespace, Name: claim.Spec.ClusterName}
	switch err := r.Client.Get(ctx, key, cluster); {
	case err == nil:
		s.cluster = cluster
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("reading Cluster %s: %w", key, err)
	}
	return s, nil
}

// ignored tells whether the host is another manager's, or is being taken out of this management cluster by
// clusterctl move: the deletion of the object then means nothing for the machine behind it.
func (r *Reconciler) ignored(s *scope) bool {
	if r.options.WatchFilter != "" && !labels.HasWatchLabel(s.host, r.options.WatchFilter) {
		return true
	}
	return moving(s.host) || s.claim != nil && moving(s.claim)
}

func moving(obj client.Object) bool {
	_, marked := obj.GetAnnotations()[clusterctlv1.DeleteForMoveAnnotation]
	return marked && !obj.GetDeletionTimestamp().IsZero()
}

// forget lets a host go that nobody has claimed. With a claim its deletion waits for the release.
func (r *Reconciler) forget(ctx context.Context, host *infrav1.RackHost) error {
	r.sessions.drop(client.ObjectKeyFromObject(host))
	before := host.DeepCopy()
	if !controllerutil.RemoveFinalizer(host, infrav1.HostFinalizer) {
		return nil
	}
	if err := r.Client.Patch(ctx, host, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("removing the finalizer of RackHost %s: %w", client.ObjectKeyFromObject(host), err)
	}
	return nil
}
