// SPDX-License-Identifier: Apache-2.0

package datastore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

const (
	// probeEvery is how long a store that has become unusable can look usable
	// while none of its tenants fails.
	probeEvery = 5 * time.Minute
	// invalidRetry is how soon a corrected Secret is noticed. A corrected spec is noticed at once.
	invalidRetry = 30 * time.Second
	// retryEvery is how soon a repaired store is noticed. Tenants wait for it.
	retryEvery = 5 * time.Second
)

// jitter spreads the probes of many stores that were seen first at the same
// moment, when the process started.
func jitter(d time.Duration) time.Duration {
	return d + rand.N(d/5) //nolint:gosec // spreads load, guards nothing
}

func (r *Reconciler) steps() []phase.Step[*scope] {
	return []phase.Step[*scope]{
		{Condition: kamajiv1alpha1.DataStoreValidCondition, Run: r.valid},
		{Condition: kamajiv1alpha1.DataStoreReachableCondition, Run: r.reachable},
	}
}

// valid resolves the Secrets. A Secret that is missing is waited for, since
// whoever makes the certificates is often slower than whoever makes the DataStore.
func (r *Reconciler) valid(ctx context.Context, s *scope) error {
	var err error
	s.config, err = storage.Load(ctx, r.Secrets, s.store)
	return verdict(err)
}

func (r *Reconciler) reachable(ctx context.Context, s *scope) error {
	driver, release, err := r.Pool.Acquire(s.config)
	if err != nil {
		return verdict(err)
	}
	defer release()
	return verdict(driver.Probe(ctx))
}

// verdict keeps the reasons of the storage layer as condition reasons.
func verdict(err error) error {
	reason := string(storage.ReasonOf(err))
	switch {
	case err == nil:
		return nil
	case storage.IsPermanent(err):
		// Not Fatal: what is wrong may be in a Secret, and most of them are not in the cache, so no event tells of a
		// correction.
		return phase.WaitFor(jitter(invalidRetry), reason, "%v", err)
	default:
		return phase.WaitFor(jitter(retryEvery), reason, "%v", err)
	}
}

// users are the tenants that need the store, as sorted namespace/name.
func (r *Reconciler) users(ctx context.Context, name string) ([]string, error) {
	var tenants kamajiv1alpha1.TenantControlPlaneList
	if err := r.Client.List(ctx, &tenants, client.MatchingFields{storage.UsersIndex: name}); err != nil {
		return nil, fmt.Errorf("listing the users of DataStore %s: %w", name, err)
	}
	users := make([]string, 0, len(tenants.Items))
	for i := range tenants.Items {
		users = append(users, client.ObjectKeyFromObject(&tenants.Items[i]).String())
	}
	slices.Sort(users)
	return users, nil
}
