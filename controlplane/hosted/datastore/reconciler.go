// SPDX-License-Identifier: Apache-2.0

// Package datastore checks DataStores: that their Secrets exist, that the store
// answers, authenticates us and keeps tenants apart, and who uses it.
package datastore

import (
	"context"
	"fmt"

	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// +kubebuilder:rbac:groups=kamaji.clastix.io,resources=datastores,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=kamaji.clastix.io,resources=datastores/status,verbs=get;patch
// +kubebuilder:rbac:groups=kamaji.clastix.io,resources=datastores/finalizers,verbs=update
// +kubebuilder:rbac:groups=kamaji.clastix.io,resources=tenantcontrolplanes,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconciler keeps the status of DataStores true. All fields but Concurrency
// are required.
type Reconciler struct {
	// Client reads from the cache. The cache must have storage.UsersIndex.
	Client client.Client
	// Secrets reads the Secrets that DataStores refer to; they carry none of our
	// labels, so a cache that is filtered by label does not hold them.
	Secrets client.Reader
	// Pool is shared with the tenant reconciler.
	Pool *storage.Pool
	// Recorder tells decisions as Events.
	Recorder events.EventRecorder
	// Concurrency is the number of stores checked at the same time, 0 for the
	// default of 4: a probe of a dead store takes seconds.
	Concurrency int
}

// scope is one pass over one DataStore.
type scope struct {
	store  *kamajiv1alpha1.DataStore
	config storage.Config
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	store := &kamajiv1alpha1.DataStore{}
	if err := r.Client.Get(ctx, request.NamespacedName, store); err != nil {
		if client.IgnoreNotFound(err) == nil {
			r.Pool.Forget(request.Name)
			forget(request.Name)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, fmt.Errorf("reading DataStore %s: %w", request.Name, err)
	}
	if _, paused := store.Annotations[kamajiv1alpha1.PausedAnnotation]; paused {
		return ctrl.Result{}, nil
	}
	before := store.DeepCopy()
	users, err := r.users(ctx, store.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !store.DeletionTimestamp.IsZero() && len(users) == 0 {
		return ctrl.Result{}, r.release(ctx, store)
	}
	if err := r.hold(ctx, store); err != nil {
		return ctrl.Result{}, err
	}

	outcome := phase.Run(ctx, &store.Status.Conditions, store.Generation, r.steps(), &scope{store: store})
	summarise(store, users, outcome)
	r.announce(before, store)
	record(store)
	// Finalizers were patched on their own; this patch is for the status alone.
	before.ObjectMeta = store.ObjectMeta
	if err := phase.PatchStatus(ctx, r.Client, patchBase(before, store), store); err != nil {
		return ctrl.Result{}, err
	}
	if outcome != nil {
		return phase.Result(outcome)
	}
	return ctrl.Result{RequeueAfter: jitter(probeEvery)}, nil
}

// hold puts the finalizer on from the first pass. Waiting for the first user
// would leave a moment in which a store disappears under a tenant that is just
// being set up in it.
func (r *Reconciler) hold(ctx context.Context, store *kamajiv1alpha1.DataStore) error {
	if !store.DeletionTimestamp.IsZero() {
		return nil
	}
	before := store.DeepCopy()
	if !controllerutil.AddFinalizer(store, kamajiv1alpha1.DataStoreInUseFinalizer) {
		return nil
	}
	return client.IgnoreNotFound(phase.PatchFinalizers(ctx, r.Client, before, store))
}

func (r *Reconciler) release(ctx context.Context, store *kamajiv1alpha1.DataStore) error {
	before := store.DeepCopy()
	if !controllerutil.RemoveFinalizer(store, kamajiv1alpha1.DataStoreInUseFinalizer) {
		return nil
	}
	return client.IgnoreNotFound(phase.PatchFinalizers(ctx, r.Client, before, store))
}
