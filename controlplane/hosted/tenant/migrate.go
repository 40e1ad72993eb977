// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/uuid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/migration"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

const (
	// migrationPoll is how often progress is shown and a failed job tried again.
	migrationPoll = 2 * time.Second
	// migrationSteps bounds the steps of one pass: more than there are.
	migrationSteps = 12
)

// relocate returns the name of the DataStore that the rest of the pass works
// with, and takes the next steps towards the one that the spec names. The pass
// ends here while writes are refused.
func (r *Reconciler) relocate(ctx context.Context, s *scope) (string, error) {
	current, err := r.current(ctx, s)
	if err != nil {
		return "", err
	}
	wanted := s.tenant.Spec.DataStore
	if wanted == "" {
		// A default that was changed moves nobody.
		wanted = current
	}
	if wanted == "" {
		wanted = r.DefaultDataStore
	}
	if current == "" || wanted == current && !s.record.Active() {
		s.showMigration(wanted)
		return wanted, nil
	}
	// From here on the cache is too old.
	if s.record, err = r.recall(ctx, r.Live, s.tenant); err != nil {
		return "", err
	}
	if s.record != nil {
		current = s.record.Current()
	}
	if !s.record.Active() {
		if begun, err := r.begin(ctx, s, current, wanted); err != nil || !begun {
			return current, err
		}
	}
	return r.advance(ctx, s, wanted)
}

// current is the DataStore that holds the tenant's data, empty if there is none
// yet. The record is right where there is one; the Secret that the pods use
// outlives the status.
func (r *Reconciler) current(ctx context.Context, s *scope) (string, error) {
	var err error
	if s.record, err = r.recall(ctx, r.Client, s.tenant); err != nil {
		return "", err
	}
	if s.record != nil {
		return s.record.Current(), nil
	}
	name, err := r.recordedStore(ctx, s.tenant)
	if err != nil || name != "" {
		return name, err
	}
	return s.tenant.Status.Storage.DataStoreName, nil
}

// begin notes that the tenant shall move. It refuses what has failed already.
func (r *Reconciler) begin(ctx context.Context, s *scope, current, wanted string) (bool, error) {
	if wanted == current {
		s.showMigration(wanted)
		return false, nil
	}
	options, err := migration.OptionsOf(s.tenant.Annotations)
	if err != nil {
		s.migrating(false, kamajiv1alpha1.InvalidSpecReason, "%v", err)
		return false, nil
	}
	request := digest(wanted, s.tenant.Annotations[kamajiv1alpha1.MigrationAttemptAnnotation], fmt.Sprint(options))
	if s.record != nil && s.record.Step == migration.Failed && s.record.Request == request {
		s.showMigration(wanted)
		return false, nil
	}
	store := &kamajiv1alpha1.DataStore{}
	switch err := r.Client.Get(ctx, client.ObjectKey{Name: wanted}, store); {
	case client.IgnoreNotFound(err) != nil:
		return false, fmt.Errorf("reading DataStore %s: %w", wanted, err)
	case err != nil:
		s.migrating(false, kamajiv1alpha1.DataStoreMissingReason, "DataStore %s does not exist: create it, or set spec.dataStore back to %s", wanted, current)
		return false, nil
	case !store.Status.Ready || !store.DeletionTimestamp.IsZero():
		s.migrating(false, kamajiv1alpha1.DataStoreNotReadyReason, "DataStore %s is not ready: %s", wanted, whyNotReady(store))
		return false, nil
	}
	record := &migration.Record{
		Source: current, Target: wanted, Attempt: string(uuid.NewUUID()), Step: migration.Preparing, Started: s.now.UTC(), Request: request,
	}
	if s.record != nil {
		record.Kept, record.Leftover = s.record.Kept, s.record.Leftover
	}
	s.record = record
	if err := r.remember(ctx, s); err != nil {
		return false, err
	}
	r.Recorder.Eventf(s.tenant, nil, corev1.EventTypeNormal, "MigrationStarted", "Migrate", "moving from DataStore %s to %s", current, wanted)
	return true, nil
}

// advance takes as many steps as can be taken now.
func (r *Reconciler) advance(ctx context.Context, s *scope, wanted string) (string, error) {
	for range migrationSteps {
		facts, progress, err := r.facts(ctx, s, wanted)
		if err != nil {
			return "", err
		}
		decision := s.record.Next(facts)
		more, err := r.perform(ctx, s, facts, decision)
		if err != nil {
			return "", err
		}
		if more {
			continue
		}
		s.showProgress(facts, progress)
		s.due(decision.At)
		if decision.Action != migration.Serve || !s.record.Active() && !s.record.Wanted(wanted) && wanted != s.record.Current() {
			s.due(s.now.Add(migrationPoll))
		}
		if s.record.Seals() {
			c := meta.FindStatusCondition(s.tenant.Status.Conditions, kamajiv1alpha1.MigratingCondition)
			return "", phase.WaitFor(s.pause(), c.Reason, "%s", c.Message)
		}
		return s.record.Current(), nil
	}
	return "", fmt.Errorf("the migration of %s does not settle in step %s", client.ObjectKeyFromObject(s.tenant), s.record.Step)
}

// facts gathers what the decision depends on, and keeps what a job has found.
func (r *Reconciler) facts(ctx context.Context, s *scope, wanted string) (migration.Facts, *migration.Progress, error) {
	// An annotation that was made unreadable meanwhile has no effect.
	options, _ := migration.OptionsOf(s.tenant.Annotations)
	if options.Timeout <= options.MinimumFreeze {
		options.Timeout, options.MinimumFreeze = migration.DefaultTimeout, 0
	}
	facts := migration.Facts{Now: time.Now(), Wanted: wanted, Options: options}
	var progress *migration.Progress
	facts.Job, progress, facts.JobError = r.jobs.Look(client.ObjectKeyFromObject(s.tenant), jobID(s.record))
	facts.Permanent = facts.JobError != nil && (migration.Permanent(facts.JobError) || phase.IsFatal(facts.JobError))
	if err := r.froze(ctx, s, progress); err != nil {
		return facts, progress, err
	}
	if s.record.Step == migration.Stopping || s.record.Step == migration.Returning {
		present, err := r.deployed(ctx, s.tenant)
		if err != nil {
			return facts, progress, err
		}
		pods, err := r.pods(ctx, s.tenant)
		if err != nil {
			return facts, progress, err
		}
		facts.PodsGone = !present && len(pods) == 0
	}
	return facts, progress, nil
}

// froze records when writes were first refused.
func (r *Reconciler) froze(ctx context.Context, s *scope, progress *migration.Progress) error {
	at, seal := progress.Frozen()
	if s.record.Step != migration.Copying || at.IsZero() || !s.record.Frozen.IsZero() && s.record.Seal == seal {
		return nil
	}
	if s.record.Frozen.IsZero() {
		s.record.Frozen = at.UTC()
		r.Recorder.Eventf(s.tenant, nil, corev1.EventTypeNormal, "TenantFrozen", "Migrate", "writes are refused until the data is in DataStore %s", s.record.Target)
	}
	s.record.Seal = seal
	return r.remember(ctx, s)
}

// perform does what was decided. It returns true when there may be more to do at once.
func (r *Reconciler) perform(ctx context.Context, s *scope, facts migration.Facts, decision migration.Decision) (bool, error) {
	record, name := s.record, client.ObjectKeyFromObject(s.tenant)
	switch decision.Action {
	case migration.RunPrepare, migration.RunCopy, migration.RunSeal, migration.RunClean:
		if decision.Action == migration.RunSeal && !facts.PodsGone {
			if err := r.abandonDeployment(ctx, s.tenant); err != nil {
				return false, err
			}
		}
		r.jobs.Run(name, jobID(record), r.work(s, decision.Action, facts.Options))
		return false, nil
	case migration.StopPods:
		return false, r.stopPods(ctx, s.tenant)
	case migration.BeginCopy:
		record.Step, record.Owned = migration.Copying, true
	case migration.BeginStop:
		_, progress, _ := r.jobs.Look(name, jobID(record))
		record.Keys, record.Bytes = progress.Keys.Load(), progress.Bytes.Load()
		record.Step, record.Stopping = migration.Stopping, facts.Now.UTC()
	case migration.Switch:
		record.Step, record.Switched = migration.Switched, facts.Now.UTC()
	case migration.Return:
		record.Step, record.Reason, record.Message = migration.Returning, decision.Reason, decision.Message
		// A copy under way ends before the source takes writes.
		r.jobs.Stop(name)
	case migration.Thaw:
		return true, r.thaw(ctx, s)
	case migration.Finish:
		record.Step = migration.Done
		record.Drop(record.Source)
	default:
		return false, nil
	}
	return true, r.remember(ctx, s)
}

// thaw gives the source its rights back, and clears up behind the attempt.
func (r *Reconciler) thaw(ctx context.Context, s *scope) error {
	source, err := r.open(ctx, s.tenant, s.record.Source, "")
	if err != nil {
		return err
	}
	defer source.release()
	// What the Secrets hold may be made for a target of another kind.
	credentials, err := source.driver.Credentials(identity(s.tenant), s.heldCredentials(), s.now)
	if err == nil {
		err = source.driver.EnsureTenant(ctx, identity(s.tenant), credentials)
	}
	if err := r.verdict(s.tenant, err); err != nil {
		return err
	}
	s.record.Step = migration.Failed
	if s.record.Owned {
		s.record.Leftover = s.record.Target
	}
	if err := r.remember(ctx, s); err != nil {
		return err
	}
	migrations.WithLabelValues("failed").Inc()
	r.Recorder.Eventf(s.tenant, nil, corev1.EventTypeWarning, s.record.Reason, "Migrate",
		"stays in DataStore %s, which takes writes again: %s", s.record.Source, s.record.Message)
	r.jobs.Run(client.ObjectKeyFromObject(s.tenant), s.record.Attempt+"/discard", r.work(s, discardTarget, migration.Options{}))
	return nil
}

// arrived closes a migration once the control plane serves from its new store.
func (r *Reconciler) arrived(ctx context.Context, s *scope) error {
	if s.record == nil || s.record.Step != migration.Switched || !s.settled() {
		return nil
	}
	options, _ := migration.OptionsOf(s.tenant.Annotations)
	frozen := time.Since(s.record.Frozen)
	s.record.Step = migration.Done
	s.record.Drop(s.record.Target)
	s.record.Keep(s.record.Source)
	s.record.Leftover = ""
	if options.DeleteSource {
		s.record.Step = migration.Cleaning
		s.due(s.now)
	}
	if err := r.remember(ctx, s); err != nil {
		return err
	}
	s.showMigration(s.record.Target)
	migrations.WithLabelValues("succeeded").Inc()
	frozenSeconds.Observe(frozen.Seconds())
	r.Recorder.Eventf(s.tenant, nil, corev1.EventTypeNormal, kamajiv1alpha1.MigratedReason, "Migrate",
		"moved %d keys from DataStore %s to %s; writes were refused for %s", s.record.Keys, s.record.Source, s.record.Target, frozen.Round(100*time.Millisecond))
	return nil
}

// settled says that this pass has applied the Deployment and that its pods serve,
// or that none shall run.
func (s *scope) settled() bool {
	if s.deployment == nil {
		return false
	}
	err := rollout(s.deployment, s.replicas())
	reason, _ := phase.Outcome(err)
	return err == nil || reason == kamajiv1alpha1.SleepingReason
}

func jobID(record *migration.Record) string { return record.Attempt + "/" + string(record.Step) }

// pairOf names both sides, without opening them.
func (r *Reconciler) pairOf(record *migration.Record, tenant *kamajiv1alpha1.TenantControlPlane) migration.Pair {
	return migration.Pair{SourceName: record.Source, TargetName: record.Target, Tenant: identity(tenant), Attempt: record.Attempt}
}

// mover opens a DataStore that a tenant moves from or to.
func (r *Reconciler) mover(ctx context.Context, name string) (storage.Mover, func(), error) {
	store := &kamajiv1alpha1.DataStore{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: name}, store); err != nil {
		return nil, func() {}, fmt.Errorf("reading DataStore %s: %w", name, err)
	}
	_, driver, release, err := r.Storage.Open(ctx, r.Secrets, store)
	if err != nil {
		return nil, func() {}, err
	}
	m, ok := driver.(storage.Mover)
	if !ok {
		release()
		return nil, func() {}, storage.Errorf(storage.ReasonDriverNotSupported,
			"DataStore %s: tenants can't be moved from or to a store with the driver %s", name, store.Spec.Driver)
	}
	return m, release, nil
}

// pair opens both sides.
func (r *Reconciler) pair(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane, record *migration.Record) (migration.Pair, func(), error) {
	pair := r.pairOf(record, tenant)
	source, releaseSource, err := r.mover(ctx, record.Source)
	if err != nil {
		return pair, func() {}, err
	}
	pair.Source = source
	target, releaseTarget, err := r.mover(ctx, record.Target)
	if err != nil {
		return pair, releaseSource, err
	}
	pair.Target = target
	return pair, func() { releaseSource(); releaseTarget() }, nil
}
