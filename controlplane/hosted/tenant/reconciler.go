// SPDX-License-Identifier: Apache-2.0

// Package tenant turns TenantControlPlanes into running control planes: storage,
// address, certificates, kubeconfigs, workload, and what has to exist inside the
// tenant before nodes can join.
//
// Builders in sibling packages say what there should be; this package gives them
// their inputs, in order, and writes what they return.
package tenant

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/migration"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/remote"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/upgrade"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/apply"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// +kubebuilder:rbac:groups=kamaji.clastix.io,resources=tenantcontrolplanes,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=kamaji.clastix.io,resources=tenantcontrolplanes/status,verbs=get;patch
// +kubebuilder:rbac:groups=kamaji.clastix.io,resources=tenantcontrolplanes/finalizers,verbs=update
// +kubebuilder:rbac:groups=kamaji.clastix.io,resources=datastores,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets;configmaps;services,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// FieldOwner is the field manager of everything the engine applies, in the
// management cluster and inside tenants.
const FieldOwner = "kamaji"

// OrphanAnnotation on a TenantControlPlane, with the value "true", lets its
// deletion finish although its data in the datastore cannot be removed.
const OrphanAnnotation = "kamaji.clastix.io/orphan-datastore"

// SkipPreflightAnnotation on a TenantControlPlane lets it be upgraded to the version
// that is its value without a look at what that could break.
const SkipPreflightAnnotation = "kamaji.clastix.io/skip-preflight"

// Reconciler makes control planes out of TenantControlPlanes. Client, Live,
// Secrets, Storage, Remote and Recorder are required.
type Reconciler struct {
	// Client reads from the cache. The cache must have storage.UsersIndex.
	Client client.Client
	// Live reads from the API server. It is used only before something is
	// generated or created, to be sure that it does not exist yet.
	Live client.Reader
	// Secrets reads the Secrets that DataStores refer to.
	Secrets client.Reader
	// Storage is shared with the DataStore reconciler.
	Storage *storage.Pool
	// Remote holds the clients of tenants.
	Remote *remote.Pool
	// Recorder tells decisions as Events.
	Recorder events.EventRecorder
	// DefaultDataStore is used by tenants that name none; may be empty.
	DefaultDataStore string
	// PriorityClass of the pods of tenants that name none; may be empty.
	PriorityClass string
	// KineImage is the image of the shim for stores other than etcd, empty for
	// desired.KineImage.
	KineImage string
	// Policies are for the NetworkPolicies of tenants, nil for none.
	Policies *Policies
	// Steps are the versions by which minors are gone through, nil for upgrade.DefaultSteps.
	Steps upgrade.Steps
	// Concurrency is the number of tenants reconciled at the same time, 0 for
	// the default. Passes mostly wait for answers of API servers.
	Concurrency int

	// gatewayAPI knows whether there are TLSRoutes to publish tenants with.
	gatewayAPI gatewayAPI

	// Starts is how many control planes may start at the same time, nil for four.
	Starts func() int

	// queue has those that wait for others to start.
	queue starts

	// trust knows the certificate authorities of users.
	trust trust

	// memory is what is remembered between passes to save work; losing it costs
	// reads, never writes.
	memory memory
	// choices are of DataStores.
	choices choices

	// departed are pods that may have left Leases behind.
	departed departures

	// publications keep back what is over in a moment.
	publications publications

	// writes are those of the status.
	writes writes

	// jobs copy tenants between DataStores.
	jobs migration.Jobs
}

// scope is one pass over one tenant: what was read, and what the steps found
// out so far. Steps read what earlier ones have set, never the status.
type scope struct {
	tenant *kamajiv1alpha1.TenantControlPlane
	now    time.Time
	// live reads from the API server.
	live client.Reader

	// existing is the data of the tenant's Secrets, rotate, rotated, retire and
	// retired what their annotations ask for and say, all by name without the
	// tenant's.
	existing        map[string]map[string][]byte
	rotate          map[string]bool
	rotated         map[string]string
	retire, retired map[string]string
	// keep and since are how long the former of two anchors is kept, and from when on.
	keep, since map[string]string

	// notes is what was done to Secrets, to be told once it is written.
	notes []pki.Note
	// rotation tells how far rotations of authorities are, nil before that is known.
	rotation *rotation

	// public is the certificate of additional host names, nil without one.
	public *desired.Public

	// ailing says which DataStore is not ready, empty for none.
	ailing string

	// storage and secrets are inputs of the workload.
	storage  desired.Storage
	secrets  map[string]map[string][]byte
	service  *corev1.Service
	endpoint endpoint.Endpoint

	// course is which version to run, effective the tenant with that version.
	course    course
	effective *kamajiv1alpha1.TenantControlPlane

	// confirmed is true once existing was read from the API server.
	confirmed bool
	// routesUsable tells whether the management cluster has TLSRoutes.
	routesUsable bool
	// routes are the live TLSRoutes, the API server's first; set with deployment.
	routes []*gatewayv1.TLSRoute
	// deployment is the live one, nil before the workload was applied.
	deployment *appsv1.Deployment
	// held is what a change of the pods waits for, nil if it was written.
	held error

	// record is that of a migration, nil if there was none.
	record *migration.Record

	// wake is when something is due although nothing happens, zero for never.
	wake time.Time
}

// due makes the pass come back at t at the latest.
func (s *scope) due(t time.Time) {
	if !t.IsZero() && (s.wake.IsZero() || t.Before(s.wake)) {
		s.wake = t
	}
}

// replicas is how many pods are to run at present: none while the control plane sleeps.
func (s *scope) replicas() int32 { return s.tenant.ReplicasAt(s.now) }

// pause is how long the queue may leave the tenant alone; zero means until
// something happens. What is due already comes back at once.
func (s *scope) pause() time.Duration {
	if s.wake.IsZero() {
		return 0
	}
	return max(time.Until(s.wake), time.Second)
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	tenant := &kamajiv1alpha1.TenantControlPlane{}
	if err := r.Client.Get(ctx, request.NamespacedName, tenant); err != nil {
		if client.IgnoreNotFound(err) == nil {
			r.forget(request.NamespacedName)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, fmt.Errorf("reading TenantControlPlane %s: %w", request, err)
	}
	if r.writes.follow(tenant) {
		// The cache doesn't have this controller's own status yet. A live read leaves what it doesn't find as it is, so it gets an empty object.
		tenant = &kamajiv1alpha1.TenantControlPlane{}
		if err := r.Live.Get(ctx, request.NamespacedName, tenant); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
	}
	if _, paused := tenant.Annotations[kamajiv1alpha1.PausedAnnotation]; paused {
		r.queue.over(request.NamespacedName, time.Now())
		return ctrl.Result{}, nil
	}
	if !tenant.DeletionTimestamp.IsZero() {
		r.queue.over(request.NamespacedName, time.Now())
		return r.delete(ctx, tenant)
	}

	before := tenant.DeepCopy()
	s := &scope{tenant: tenant, now: time.Now(), live: &absence{Reader: r.Live}, secrets: map[string]map[string][]byte{}}
	awake := s.awake()
	outcome := phase.Run(ctx, &tenant.Status.Conditions, tenant.Generation, r.timed(r.up()), s)
	if err := r.arrived(ctx, s); err != nil {
		return ctrl.Result{}, err
	}
	r.handOver(ctx, s)
	summarise(s, outcome)
	record(tenant)
	if wait := r.settle(before, tenant, outcome, s.now); wait > 0 {
		result, _ := phase.Result(outcome) // a wait is no error
		if result.RequeueAfter == 0 || wait < result.RequeueAfter {
			result.RequeueAfter = wait
		}
		return result, nil
	}
	r.announce(before, tenant)
	// Finalizers were patched on their own; this patch is for the status alone.
	before.ObjectMeta = tenant.ObjectMeta
	if err := phase.PatchStatus(ctx, r.Client, before, tenant); err != nil {
		return ctrl.Result{}, err
	}
	r.writes.note(tenant)
	if outcome == nil {
		return ctrl.Result{RequeueAfter: s.pause()}, nil
	}
	result, err := phase.Result(outcome)
	if err == nil && (s.record.Active() || awake) && s.pause() > 0 && (result.RequeueAfter == 0 || s.pause() < result.RequeueAfter) {
		// A move gives up after a time, a control plane that was woken goes back to sleep, and nothing happens when pods don't get ready.
		result.RequeueAfter = s.pause()
	}
	return result, err
}

// up is the order of things.
func (r *Reconciler) up() []phase.Step[*scope] {
	return []phase.Step[*scope]{
		{Condition: kamajiv1alpha1.StorageReadyCondition, Run: r.store},
		{Condition: kamajiv1alpha1.AddressReadyCondition, Run: r.address},
		{Condition: kamajiv1alpha1.CertificatesReadyCondition, Run: r.certificates},
		{Condition: kamajiv1alpha1.KubeconfigsReadyCondition, Run: r.kubeconfigs},
		{Condition: kamajiv1alpha1.WorkloadReadyCondition, Run: r.workload},
		{Condition: kamajiv1alpha1.TenantConfiguredCondition, Run: r.inside},
		{Condition: kamajiv1alpha1.RoutedCondition, Run: r.routed},
		{Condition: kamajiv1alpha1.VersionReachedCondition, Run: r.reached},
	}
}

// writer applies objects in the management cluster.
func (r *Reconciler) writer(live client.Reader) *apply.Writer {
	return &apply.Writer{Client: r.Client, Live: live, Owner: FieldOwner}
}
