// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/bootstrap"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// stillClaimed asks the API server, not the cache: a cache that lags could bring a claim back that has been released.
func (r *Reconciler) stillClaimed(ctx context.Context, s *scope) error {
	live := &infrav1.RackHostClaim{}
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.claim), live)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading RackHostClaim %s: %w", client.ObjectKeyFromObject(s.claim), err)
	}
	if err != nil || live.Spec.ID != s.claim.Spec.ID || !live.DeletionTimestamp.IsZero() {
		return phase.Wait(infrav1.HostClaimChangedReason, "the claim was released meanwhile")
	}
	return nil
}

// payload reads the bootstrap data and makes it fit this host. Its result must go nowhere but to the driver.
func (r *Reconciler) payload(ctx context.Context, s *scope) (bootstrap.Payload, error) {
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: s.claim.Namespace, Name: s.claim.Spec.DataSecretName}
	if err := r.Live.Get(ctx, key, secret); apierrors.IsNotFound(err) {
		return bootstrap.Payload{}, phase.WaitFor(r.options.RetryInterval, infrav1.HostBootstrapDataMissingReason,
			"there is no Secret %s, which the Machine's spec.bootstrap.dataSecretName names", key)
	} else if err != nil {
		return bootstrap.Payload{}, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	if len(secret.Data["value"]) == 0 {
		return bootstrap.Payload{}, phase.WaitFor(r.options.RetryInterval, infrav1.HostBootstrapDataMissingReason,
			`Secret %s has no key "value"`, key)
	}
	hostname := s.facts.Hostname
	if hostname == "" {
		hostname = s.host.Name
	}
	return bootstrap.Build(bootstrap.Input{
		Data: secret.Data["value"], Format: string(secret.Data["format"]), ProviderID: s.claim.Spec.ProviderID,
		Host: bootstrap.Host{Hostname: hostname, InstanceID: s.claim.Spec.ID, FailureDomain: s.host.Spec.FailureDomain},
	})
}

// blocked reports what keeps the bootstrap data from being delivered.
func (r *Reconciler) blocked(s *scope, err error) error {
	var invalid *bootstrap.InvalidError
	var unclean *driver.NotCleanError
	switch {
	case errors.As(err, &invalid):
		err = phase.Fatal(infrav1.HostBootstrapDataInvalidReason,
			"Secret %s can't be carried out: %v; correct the KubeadmConfigTemplate and replace the Machine", s.claim.Spec.DataSecretName, invalid)
	case errors.As(err, &unclean):
		err = phase.WaitFor(r.options.RetryInterval, infrav1.HostNotCleanReason, "%v", unclean)
	}
	reason, message := phase.Outcome(err)
	mark(s.host, infrav1.HostBootstrappedCondition, metav1.ConditionFalse, reason, message)
	return err
}
