// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// patience is how long the deletion waits for pods to stop. A dead node would
// keep them for ever. Going on is safe: the driver takes the tenant's access
// away before it removes the data, so a pod that still runs writes nothing.
const patience = 60 * time.Second

// stoppingReason of the Deleting condition: the pods are still there.
const stoppingReason = "StoppingPods"

// delete takes the tenant down and lets the object go. Everything with an owner
// reference is left to the garbage collector.
func (r *Reconciler) delete(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) (ctrl.Result, error) {
	if !controllerutil.ContainsFinalizer(tenant, kamajiv1alpha1.DataStoreCleanupFinalizer) &&
		!controllerutil.ContainsFinalizer(tenant, kamajiv1alpha1.TenantAccessFinalizer) {
		return ctrl.Result{}, nil
	}
	before := tenant.DeepCopy()
	outcome := r.tearDown(ctx, tenant)
	if outcome == nil {
		controllerutil.RemoveFinalizer(tenant, kamajiv1alpha1.DataStoreCleanupFinalizer)
		controllerutil.RemoveFinalizer(tenant, kamajiv1alpha1.TenantAccessFinalizer)
		r.forget(client.ObjectKeyFromObject(tenant))
		return phase.Result(client.IgnoreNotFound(phase.PatchFinalizers(ctx, r.Client, before, tenant)))
	}
	reason, message := phase.Outcome(outcome)
	for kind, status := range map[string]metav1.ConditionStatus{
		kamajiv1alpha1.DeletingCondition: metav1.ConditionTrue, phase.Ready: metav1.ConditionFalse,
	} {
		meta.SetStatusCondition(&tenant.Status.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: tenant.Generation,
		})
	}
	r.announce(before, tenant)
	if err := phase.PatchStatus(ctx, r.Client, before, tenant); err != nil {
		return ctrl.Result{}, err
	}
	return phase.Result(outcome)
}

// tearDown stops the pods, then removes the data, then what else would be in the
// way of the garbage collector.
func (r *Reconciler) tearDown(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) error {
	if err := r.stop(ctx, tenant); err != nil {
		return err
	}
	if err := r.discard(ctx, tenant); err != nil {
		if tenant.Annotations[OrphanAnnotation] != "true" {
			return err
		}
		r.Recorder.Eventf(tenant, nil, corev1.EventTypeWarning, "DataOrphaned", "Delete",
			"data of schema %s stays in the datastore, as the annotation %s demands: %v", tenant.Schema(), OrphanAnnotation, err)
	}
	return r.freeConfig(ctx, tenant)
}

// stop removes all objects of the tenant and waits until its pods are gone.
// Secrets and the like are removed here, since the garbage collector has some
// twenty requests per second for a whole cluster.
func (r *Reconciler) stop(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) error {
	deployment, err := r.deleteDeployment(ctx, tenant)
	if err != nil {
		return err
	}
	pods, err := r.pods(ctx, tenant)
	if err != nil {
		return err
	}
	if err := r.end(ctx, deployment, pods); err != nil {
		return err
	}
	// TLSRoutes are few and left to the garbage collector. Policies hold pods that stop, too.
	members := set(tenant, false)
	members.Lists = slices.DeleteFunc(members.Lists, func(list client.ObjectList) bool {
		switch list.(type) {
		case *appsv1.DeploymentList, *networkingv1.NetworkPolicyList:
			return true
		}
		return false
	})
	if _, err := r.writer(r.Live).Prune(ctx, members, nil); err != nil {
		return err
	}
	if deployment == nil && len(pods) == 0 {
		members.Lists = []client.ObjectList{&networkingv1.NetworkPolicyList{}}
		_, err := r.writer(r.Live).Prune(ctx, members, nil)
		return err
	}
	left := time.Until(tenant.DeletionTimestamp.Add(patience))
	if left <= 0 {
		return nil
	}
	return phase.WaitFor(left, stoppingReason, "waits for the pods of Deployment %s to stop, for %s at most: %d are left",
		client.ObjectKeyFromObject(tenant), patience, len(pods))
}

// deleteDeployment deletes the Deployment in the foreground, so that its pods are
// deleted before it, and returns it as long as it is there.
func (r *Reconciler) deleteDeployment(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) (*appsv1.Deployment, error) {
	deployment := &appsv1.Deployment{}
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(tenant), deployment)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading Deployment %s: %w", client.ObjectKeyFromObject(tenant), err)
	case !metav1.IsControlledBy(deployment, tenant):
		return nil, nil
	case !deployment.DeletionTimestamp.IsZero():
		return deployment, nil
	}
	err = r.Client.Delete(ctx, deployment, client.PropagationPolicy(metav1.DeletePropagationForeground), client.Preconditions{UID: &deployment.UID})
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("deleting Deployment %s: %w", client.ObjectKeyFromObject(tenant), err)
	}
	return deployment, nil
}

// discard removes the tenant from its datastores.
func (r *Reconciler) discard(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) error {
	id := identity(tenant)
	if id.Validate() != nil {
		// Names that no driver accepts were never used.
		return nil
	}
	r.jobs.Stop(client.ObjectKeyFromObject(tenant))
	record, err := r.recall(ctx, r.Live, tenant)
	if err != nil {
		return r.stuck(tenant, err)
	}
	name := tenant.Status.Storage.DataStoreName
	switch {
	case record != nil:
		name = record.Current()
	case name == "":
		name = storage.NameFor(tenant, r.DefaultDataStore)
	}
	if err := r.discardCopies(ctx, tenant, storesOf(record, name)); err != nil {
		return r.stuck(tenant, err)
	}
	backends, err := r.backends(ctx, tenant, name)
	defer release(backends)
	// A store that is gone keeps nothing in the others.
	for _, b := range backends {
		failed := b.driver.DeleteTenant(ctx, id)
		// Names that a driver doesn't accept were never used, either.
		if failed != nil && storage.ReasonOf(failed) != storage.ReasonInvalid && err == nil {
			err = failed
		}
	}
	if err != nil {
		return r.stuck(tenant, err)
	}
	return nil
}

// discardCopies removes what migrations have left in other DataStores. One that
// is gone took its copy with it.
func (r *Reconciler) discardCopies(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane, stores []string) error {
	for _, name := range stores {
		b, err := r.open(ctx, tenant, name, "")
		if reason, _ := phase.Outcome(err); reason == kamajiv1alpha1.DataStoreMissingReason {
			continue
		}
		if err != nil {
			return err
		}
		err = b.driver.DeleteTenant(ctx, identity(tenant))
		b.release()
		if err != nil {
			return err
		}
	}
	return nil
}

// deployed tells whether the Deployment exists, also while it is being deleted.
func (r *Reconciler) deployed(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) (bool, error) {
	deployment := &appsv1.Deployment{}
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(tenant), deployment)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("reading Deployment %s: %w", client.ObjectKeyFromObject(tenant), err)
	}
	return err == nil && metav1.IsControlledBy(deployment, tenant), nil
}

// stuck adds the way out to an error that may last.
func (r *Reconciler) stuck(tenant *kamajiv1alpha1.TenantControlPlane, err error) error {
	reason, message := phase.Outcome(err)
	if reason == phase.ReasonError {
		reason = string(storage.ReasonOf(err))
	}
	key := memoryKey{tenant: client.ObjectKeyFromObject(tenant), task: taskDelete}
	return phase.WaitFor(r.memory.backOff(key, time.Second, time.Minute), reason,
		"%s; to give up the data of schema %s, annotate the object with %s=true", message, tenant.Schema(), OrphanAnnotation)
}

// freeConfig removes the finalizer that earlier engines put on the Secret with
// the database configuration, and that would keep it for ever.
func (r *Reconciler) freeConfig(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) error {
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: tenant.Namespace, Name: desired.Name(tenant, desired.StorageConfig)}
	if err := r.Client.Get(ctx, key, secret); err != nil {
		return client.IgnoreNotFound(err)
	}
	before := secret.DeepCopy()
	if !metav1.IsControlledBy(secret, tenant) || !controllerutil.RemoveFinalizer(secret, kamajiv1alpha1.DataStoreSecretFinalizer) {
		return nil
	}
	err := r.Client.Patch(ctx, secret, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("removing the finalizer of Secret %s: %w", key, err)
	}
	return nil
}
