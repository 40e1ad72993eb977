// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

// settle is how long after a rollout nothing of the former pods answers any more:
// they end at most 45 s after they were asked to, and gateways and nodes have heard
// of it by then.
const settle = time.Minute

// anchorLabel is the label of the pods that holds the hash of each anchor's Secret.
var anchorLabel = map[string]string{
	pki.CA:             kamajiv1alpha1.ComponentChecksumPrefix + "ca",
	pki.FrontProxyCA:   kamajiv1alpha1.ComponentChecksumPrefix + "front-proxy-ca-certificate",
	pki.ServiceAccount: kamajiv1alpha1.ComponentChecksumPrefix + "service-account",
}

// rotation is how far the replacement of authorities and of the key of tokens is.
type rotation struct {
	// advance are the anchors that may take their next step.
	advance map[string]bool
	// waits is what the others wait for.
	waits map[string]string
	// phases of those that are being replaced, refused why others are not.
	phases  map[string]pki.Phase
	refused map[string]string
}

// progress reads from the world whether the last step of each rotation has arrived
// everywhere. It is the only judge of that, and remembers nothing that matters: the
// phase is in the Secret, the pods in the Deployment, and proof about nodes on them.
func (r *Reconciler) progress(ctx context.Context, s *scope) (rotation, error) {
	out := rotation{advance: map[string]bool{}, waits: map[string]string{}}
	var deployment *appsv1.Deployment
	for _, name := range pki.Anchors {
		step := pki.PhaseOf(s.existing[name])
		if step == pki.Settled {
			continue
		}
		if deployment == nil {
			deployment = &appsv1.Deployment{}
			if err := r.Client.Get(ctx, client.ObjectKeyFromObject(s.tenant), deployment); client.IgnoreNotFound(err) != nil {
				return out, fmt.Errorf("reading Deployment %s: %w", client.ObjectKeyFromObject(s.tenant), err)
			}
		}
		wait := arrived(deployment, anchorLabel[name], desired.Checksum(s.existing[name]), s)
		if wait == "" && name == pki.CA {
			wait = r.known(s)
		}
		if wait == "" && step == pki.Retiring {
			s.noteSince(name)
			wait = r.needed(s, name)
		}
		out.waits[name] = wait
	}
	out.together(s.existing)
	return out, nil
}

// together lets the rotations that are under way take their steps at the same time, since each step replaces the pods.
func (p *rotation) together(existing map[string]map[string][]byte) {
	trusting, ready := false, true
	for name, wait := range p.waits {
		if pki.PhaseOf(existing[name]) == pki.Trusting {
			trusting, ready = true, ready && wait == ""
		}
	}
	for name, wait := range p.waits {
		p.advance[name] = wait == "" && (!trusting || ready && pki.PhaseOf(existing[name]) == pki.Trusting)
	}
}

// arrived tells what the pods wait for until all of them have a Secret's content, of which they bear the hash.
func arrived(d *appsv1.Deployment, label, hash string, s *scope) string {
	status := d.Status
	switch {
	case s.replicas() == 0:
		return "the control plane sleeps"
	case d.Spec.Template.Labels[label] != hash, status.ObservedGeneration < d.Generation,
		status.UpdatedReplicas < s.replicas(), status.Replicas != status.UpdatedReplicas, status.ReadyReplicas != status.Replicas:
		return "not all pods have it yet"
	}
	for _, c := range status.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionTrue {
			if end := c.LastUpdateTime.Add(settle); end.After(s.now) {
				s.due(end)
				return "former pods are ending"
			}
		}
	}
	return ""
}

// known tells whether the documents in the tenant have what joining nodes must trust.
func (r *Reconciler) known(s *scope) string {
	key := memoryKey{tenant: client.ObjectKeyFromObject(s.tenant), task: taskTrust}
	if done, _ := r.memory.done(key, []string{string(s.existing[pki.CA]["ca.crt"])}, s.now); !done {
		return "the documents that nodes join with don't have it yet"
	}
	return ""
}

// follow takes over what was decided in this pass.
func (p *rotation) follow(result pki.Result) {
	p.phases, p.refused = map[string]pki.Phase{}, result.Refused
	for _, name := range pki.Anchors {
		if step := pki.PhaseOf(result.Data[name]); step != pki.Settled {
			p.phases[name] = step
		}
	}
	for name, advanced := range p.advance {
		if advanced {
			p.waits[name] = "not all pods have it yet"
		}
	}
}

// reportRotation sets the condition. It stays as it is when the pass didn't come so far.
func reportRotation(s *scope) {
	p, conditions := s.rotation, &s.tenant.Status.Conditions
	if p == nil {
		return
	}
	if len(p.phases)+len(p.refused) == 0 {
		meta.RemoveStatusCondition(conditions, kamajiv1alpha1.AuthorityRotatingCondition)
		return
	}
	status, reason := metav1.ConditionFalse, kamajiv1alpha1.RotationRefusedReason
	var messages []string
	for _, name := range slices.Sorted(maps.Keys(p.refused)) {
		messages = append(messages, desired.Name(s.tenant, name)+": "+p.refused[name])
	}
	for _, name := range slices.Sorted(maps.Keys(p.phases)) {
		status = metav1.ConditionTrue
		if reason != kamajiv1alpha1.TrustingNextReason {
			reason = kamajiv1alpha1.RetiringReason
		}
		if p.phases[name] == pki.Trusting {
			reason = kamajiv1alpha1.TrustingNextReason
		}
		wait := p.waits[name]
		if wait == "" {
			wait = "not all pods have it yet"
		}
		messages = append(messages, fmt.Sprintf("%s: %s: %s", desired.Name(s.tenant, name), p.phases[name], wait))
	}
	meta.SetStatusCondition(conditions, metav1.Condition{
		Type: kamajiv1alpha1.AuthorityRotatingCondition, Status: status, Reason: reason,
		Message: strings.Join(messages, "; "), ObservedGeneration: s.tenant.Generation,
	})
}
