// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/migration"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// discardTarget is the job that removes what a failed attempt has left in the
// target. Nothing waits for it: the next attempt, or the tenant's deletion, looks
// again.
const discardTarget migration.Action = "DiscardTarget"

var (
	migrations = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kamaji_migrations_total",
		Help: "Tenants that were moved to another DataStore, or were not, by result.",
	}, []string{"result"})
	frozenSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "kamaji_migration_frozen_seconds",
		Help:    "Time for which a migration that succeeded has refused writes.",
		Buckets: prometheus.ExponentialBuckets(1, 2, 12),
	})
)

func init() { metrics.Registry.MustRegister(migrations, frozenSeconds) }

// work returns what a job does. It uses nothing of the pass, which ends earlier.
func (r *Reconciler) work(s *scope, action migration.Action, options migration.Options) func(context.Context, *migration.Progress) error {
	tenant, record := s.tenant.DeepCopy(), *s.record
	clean := options.CleanTarget || record.Leftover == record.Target
	return func(ctx context.Context, progress *migration.Progress) error {
		pair, done, err := r.pair(ctx, tenant, &record)
		defer done()
		if err != nil {
			return err
		}
		switch action {
		case migration.RunPrepare:
			// What the pods will need is looked at now, when turning back costs nothing.
			opened, err := r.backends(ctx, tenant, record.Target)
			release(opened)
			if err != nil {
				return err
			}
			return pair.Prepare(ctx, clean)
		case migration.RunCopy:
			return pair.Copy(ctx, progress)
		case migration.RunSeal:
			return pair.Seal(ctx, record.Seal)
		case migration.RunClean:
			return pair.Source.DeleteTenant(ctx, pair.Tenant)
		case discardTarget:
			return pair.Discard(ctx, record.Owned)
		default:
			return fmt.Errorf("no job is called %s", action)
		}
	}
}

// stopPods deletes the Deployment, and with it the pods, at once: the API that
// they serve is of no use any more.
func (r *Reconciler) stopPods(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) error {
	deployment, err := r.deleteDeployment(ctx, tenant)
	if err != nil {
		return err
	}
	pods, err := r.pods(ctx, tenant)
	if err != nil {
		return err
	}
	return r.end(ctx, deployment, pods)
}

// abandonDeployment lets a Deployment go whose pods don't stop, as on a node that
// is dead. They can write nowhere.
func (r *Reconciler) abandonDeployment(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) error {
	present, err := r.deployed(ctx, tenant)
	if err != nil || !present {
		return err
	}
	deployment := &appsv1.Deployment{}
	deployment.Namespace, deployment.Name = tenant.Namespace, tenant.Name
	err = r.Client.Delete(ctx, deployment, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting Deployment %s: %w", client.ObjectKeyFromObject(tenant), err)
	}
	return nil
}

// recall reads the record of a migration, nil if there is none.
func (r *Reconciler) recall(ctx context.Context, reader client.Reader, tenant *kamajiv1alpha1.TenantControlPlane) (*migration.Record, error) {
	configMap := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: tenant.Namespace, Name: desired.Name(tenant, desired.Migration)}
	err := reader.Get(ctx, key, configMap)
	if apierrors.IsNotFound(err) || err == nil && !metav1.IsControlledBy(configMap, tenant) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading ConfigMap %s: %w", key, err)
	}
	record, err := migration.Decode(configMap.Data)
	if err != nil {
		return nil, phase.WaitFor(foreignRetry, kamajiv1alpha1.InvalidSpecReason, "ConfigMap %s: %v; restore it, or delete it to begin anew from what Secret %s names",
			key, err, desired.Name(tenant, desired.StorageConfig))
	}
	return record, nil
}

// remember writes the record before anything is done that follows from it.
func (r *Reconciler) remember(ctx context.Context, s *scope) error {
	data, err := s.record.Encode()
	if err != nil {
		return err
	}
	_, err = r.writer(s.live).Apply(ctx, desired.MigrationRecord(s.tenant, data))
	return explain(err)
}

// recordedStore is the DataStore that the pods' credentials were made for.
func (r *Reconciler) recordedStore(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) (string, error) {
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: tenant.Namespace, Name: desired.Name(tenant, desired.StorageConfig)}
	if err := r.Client.Get(ctx, key, secret); err != nil {
		return "", client.IgnoreNotFound(err)
	}
	if !metav1.IsControlledBy(secret, tenant) {
		return "", nil
	}
	return secret.Annotations[kamajiv1alpha1.DataStoreAnnotation], nil
}

// storesOf are the DataStores that may hold something of a tenant besides the
// current one.
func storesOf(record *migration.Record, current string) []string {
	if record == nil {
		return nil
	}
	var out []string
	seen := map[string]bool{current: true, "": true}
	candidates := append([]string{record.Leftover}, record.Kept...)
	if record.Active() {
		candidates = append(candidates, record.Source, record.Target)
	}
	for _, name := range candidates {
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	return out
}

// migrating sets the condition.
func (s *scope) migrating(active bool, reason, format string, args ...any) {
	status := metav1.ConditionFalse
	if active {
		status = metav1.ConditionTrue
	}
	meta.SetStatusCondition(&s.tenant.Status.Conditions, metav1.Condition{
		Type: kamajiv1alpha1.MigratingCondition, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...), ObservedGeneration: s.tenant.Generation,
	})
}

// showMigration tells how the last migration ended, if there was one.
func (s *scope) showMigration(wanted string) {
	record := s.record
	switch {
	case record == nil:
		meta.RemoveStatusCondition(&s.tenant.Status.Conditions, kamajiv1alpha1.MigratingCondition)
	case record.Step == migration.Failed && wanted == record.Target:
		s.migrating(false, record.Reason, "the data stays in DataStore %s: %s. Set spec.dataStore back to %s, or change the annotation %s to try again",
			record.Source, record.Message, record.Source, kamajiv1alpha1.MigrationAttemptAnnotation)
	case record.Step == migration.Failed:
		s.migrating(false, record.Reason, "the data stays in DataStore %s: %s", record.Source, record.Message)
	case record.Step == migration.Done:
		kept := ""
		if len(record.Kept) > 0 {
			kept = fmt.Sprintf("; an old copy is in %v", record.Kept)
		}
		s.migrating(false, kamajiv1alpha1.MigratedReason, "%d keys, %d bytes came from DataStore %s%s", record.Keys, record.Bytes, record.Source, kept)
	}
}

// showProgress tells what a migration under way is doing.
func (s *scope) showProgress(facts migration.Facts, progress *migration.Progress) {
	record, trouble := s.record, ""
	if facts.JobError != nil {
		trouble = "; trying again: " + facts.JobError.Error()
	}
	switch record.Step {
	case migration.Preparing:
		s.migrating(true, kamajiv1alpha1.PreparingTargetReason, "DataStore %s is made ready%s", record.Target, trouble)
	case migration.Copying:
		if record.Frozen.IsZero() {
			s.migrating(true, kamajiv1alpha1.FrozenReason, "writes are about to be refused, the copy to DataStore %s begins%s", record.Target, trouble)
			return
		}
		s.migrating(true, kamajiv1alpha1.FrozenReason, "writes are refused; copied %d keys to DataStore %s%s", progress.Keys.Load(), record.Target, trouble)
	case migration.Stopping:
		s.migrating(true, kamajiv1alpha1.StoppingPodsReason, "writes are refused; %d keys are copied; the pods of DataStore %s stop%s", record.Keys, record.Source, trouble)
	case migration.Switched:
		s.migrating(true, kamajiv1alpha1.StartingReason, "pods start with DataStore %s", record.Target)
	case migration.Cleaning:
		s.migrating(true, kamajiv1alpha1.CleaningSourceReason, "the data in DataStore %s is deleted%s", record.Source, trouble)
	case migration.Returning:
		s.migrating(true, kamajiv1alpha1.ReturningReason, "the tenant returns to DataStore %s: %s", record.Source, record.Message)
	default:
		s.showMigration(facts.Wanted)
	}
}
