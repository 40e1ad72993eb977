// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/apply"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// +kubebuilder:rbac:groups=monitoring.coreos.com,resources=podmonitors,verbs=get;create;patch;delete

// monitor makes the PodMonitor, or reports why it can't: nobody waits for it. It is
// written when it changes and looked at now and then: PodMonitors are not in the
// cache, which not every installation has the kind for.
func (r *Reconciler) monitor(ctx context.Context, s *scope, in desired.Input) error {
	wanted := desired.PodMonitor(in)
	if wanted == nil {
		meta.RemoveStatusCondition(&s.tenant.Status.Conditions, kamajiv1alpha1.MonitoredCondition)
		return nil
	}
	text, err := json.Marshal(wanted)
	if err != nil {
		return fmt.Errorf("encoding PodMonitor %s: %w", client.ObjectKeyFromObject(wanted), err)
	}
	key := memoryKey{tenant: client.ObjectKeyFromObject(s.tenant), task: taskMonitor}
	inputs := []string{string(s.tenant.UID), string(text)}
	done, next := r.memory.done(key, inputs, s.now)
	if done && meta.FindStatusCondition(s.tenant.Status.Conditions, kamajiv1alpha1.MonitoredCondition) != nil {
		s.due(next)
		return nil
	}
	verdict := metav1.Condition{
		Type: kamajiv1alpha1.MonitoredCondition, Status: metav1.ConditionTrue, Reason: kamajiv1alpha1.PodMonitorAppliedReason,
		Message: "PodMonitor " + wanted.GetName() + " is there", ObservedGeneration: s.tenant.Generation,
	}
	if err := r.applyMonitor(ctx, s, wanted); err != nil {
		reason, message := phase.Outcome(explain(err))
		if meta.IsNoMatchError(err) {
			reason = kamajiv1alpha1.PodMonitorMissingReason
			message = "spec.controlPlane.monitoring needs PodMonitor in monitoring.coreos.com/v1, which this cluster lacks: install the Prometheus operator, or its CRDs; " +
				"it is looked for again within ten minutes"
		}
		verdict.Status, verdict.Reason, verdict.Message = metav1.ConditionFalse, reason, message
	}
	meta.SetStatusCondition(&s.tenant.Status.Conditions, verdict)
	s.due(r.memory.remember(key, inputs, s.now))
	return nil
}

func (r *Reconciler) applyMonitor(ctx context.Context, s *scope, wanted *unstructured.Unstructured) error {
	live := wanted.DeepCopy()
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(wanted), live)
	if err == nil && !metav1.IsControlledBy(live, s.tenant) {
		return &apply.ForeignError{Object: "PodMonitor " + client.ObjectKeyFromObject(wanted).String()}
	}
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	return r.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(wanted), client.FieldOwner(FieldOwner), client.ForceOwnership)
}

// unmonitor removes the PodMonitor when nobody asks for it any more. The Secret, which the cache holds and which goes
// afterwards, tells that there was one.
func (r *Reconciler) unmonitor(ctx context.Context, s *scope) error {
	if s.tenant.Spec.ControlPlane.Monitoring != nil || len(s.existing[pki.Metrics]) == 0 {
		return nil
	}
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(desired.PodMonitorKind)
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.tenant), live)
	switch {
	case apierrors.IsNotFound(err) || meta.IsNoMatchError(err):
		return nil
	case err != nil:
		return fmt.Errorf("reading PodMonitor %s: %w", client.ObjectKeyFromObject(s.tenant), err)
	case !metav1.IsControlledBy(live, s.tenant):
		return nil
	}
	if err := r.Client.Delete(ctx, live); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting PodMonitor %s: %w", client.ObjectKeyFromObject(s.tenant), err)
	}
	return nil
}
