// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

const (
	// defaultPatience with a control plane. Cluster API takes as long to try again when its first connection fails, so
	// to wait longer gains nothing; and a hosted control plane that itself waits for the infrastructure gets on.
	defaultPatience = 30 * time.Second
	// glance is how soon a control plane is looked at again that its provider has not picked up.
	glance = time.Second
)

// sight is what can be seen of a Cluster's control plane.
type sight int

const (
	// ordinary: made of Machines, which need the infrastructure first, or nothing that may be read.
	ordinary sight = iota
	// unseen: not there yet, or its provider has not looked at it yet.
	unseen
	// hosted: runs elsewhere and needs nothing of ours.
	hosted
)

// provisioned tells Cluster API to go on, once and for all. There is nothing to build, but its caches connect to the API
// server from that moment on, and after a failed attempt pause for half a minute. So a hosted control plane comes first.
func (r *Reconciler) provisioned(ctx context.Context, s *scope) error {
	status := &s.rackCluster.Status.Initialization
	if ptr.Deref(status.Provisioned, false) {
		return nil
	}
	left := min(s.rackCluster.CreationTimestamp.Add(r.options.ControlPlanePatience).Sub(s.now), r.options.ControlPlanePatience)
	ref := s.cluster.Spec.ControlPlaneRef
	if left > 0 && ref.IsDefined() && !ptr.Deref(s.cluster.Status.Initialization.ControlPlaneInitialized, false) {
		seen, err := r.look(ctx, ref, s.cluster.Namespace)
		if err != nil {
			return err
		}
		if pause := hold(seen, left); pause > 0 {
			return phase.WaitFor(pause, infrav1.WaitingForControlPlaneReason,
				"waits until %s %s answers, for %s at most", ref.Kind, ref.Name, r.options.ControlPlanePatience)
		}
	}
	status.Provisioned = ptr.To(true)
	return nil
}

// hold is how long to wait before the next look, zero for not at all. left is what is left of the patience. The end of
// a hosted control plane's start is told by the Cluster.
func hold(seen sight, left time.Duration) time.Duration {
	switch seen {
	case hosted:
		return max(left, 0)
	case unseen:
		return max(min(left, glance), 0)
	default:
		return 0
	}
}

// look reads the control plane from the API server. A kind that this manager has no right to read, or that does not
// exist, is ordinary.
func (r *Reconciler) look(ctx context.Context, ref clusterv1.ContractVersionedObjectReference, namespace string) (sight, error) {
	mapping, err := r.Client.RESTMapper().RESTMapping(schema.GroupKind{Group: ref.APIGroup, Kind: ref.Kind})
	if meta.IsNoMatchError(err) {
		return ordinary, nil
	} else if err != nil {
		return ordinary, fmt.Errorf("finding the version of %s: %w", ref.Kind, err)
	}
	controlPlane := &unstructured.Unstructured{}
	controlPlane.SetGroupVersionKind(mapping.GroupVersionKind)
	err = r.Live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref.Name}, controlPlane)
	switch {
	case apierrors.IsForbidden(err):
		return ordinary, nil
	case apierrors.IsNotFound(err):
		return unseen, nil
	case err != nil:
		return ordinary, fmt.Errorf("reading %s %s/%s: %w", ref.Kind, namespace, ref.Name, err)
	}
	return classify(controlPlane), nil
}

// classify goes by the contract of Cluster API. A provider reports conditions in its first pass at the latest; Paused
// may come before.
func classify(controlPlane *unstructured.Unstructured) sight {
	if util.IsExternalManagedControlPlane(controlPlane) {
		return hosted
	}
	conditions, _, _ := unstructured.NestedSlice(controlPlane.Object, "status", "conditions")
	for _, c := range conditions {
		if condition, ok := c.(map[string]any); ok && condition["type"] != clusterv1.PausedCondition {
			return ordinary
		}
	}
	return unseen
}
