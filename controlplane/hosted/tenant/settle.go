// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

const (
	// settleTime is how long a tenant waits for something before that is published: most waits of a start, for a
	// gateway's answer or for kube-proxy, are over sooner, and cost a write and an Event each.
	settleTime = time.Second
	// progressTime is how often it is published how far a wait has come.
	progressTime = 2 * time.Second
)

// passing are the reasons of waits that normally end by themselves within seconds.
var passing = map[string]bool{
	kamajiv1alpha1.GatewayPendingReason: true, kamajiv1alpha1.AddressPendingReason: true, kamajiv1alpha1.RoutePendingReason: true,
	kamajiv1alpha1.RolloutInProgressReason: true, kamajiv1alpha1.TenantUnreachableReason: true,
}

// publications knows since when tenants wait, and when it was published last. Losing it publishes late, by settleTime.
type publications struct {
	mu      sync.Mutex
	tenants map[types.NamespacedName]*publication
}

type publication struct {
	// reason is why the tenant waits, since when.
	reason string
	since  time.Time
	// published is when its status was written last.
	published time.Time
}

// news is what there is to publish of a tenant that waits.
type news int

const (
	// progress is a wait that is known, with another message.
	progress news = iota
	// verdict is another reason to wait.
	verdict
	// address is one that others wait for.
	address
)

// delay is how long news of a tenant that waits for this reason are to be kept back, 0 if they are to be published now.
func (p *publications) delay(name types.NamespacedName, reason string, urgency news, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	have := p.tenants[name]
	if have == nil {
		have = &publication{}
		if p.tenants == nil {
			p.tenants = map[types.NamespacedName]*publication{}
		}
		p.tenants[name] = have
	}
	if have.reason != reason {
		have.reason, have.since = reason, now
	}
	var due time.Time
	switch urgency {
	case progress:
		due = have.published.Add(progressTime)
	case verdict:
		due = have.since.Add(settleTime)
	}
	if left := due.Sub(now); left > 0 {
		return left
	}
	have.published = now
	return 0
}

// over notes that a tenant doesn't wait, or not for something that passes.
func (p *publications) over(name types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tenants, name)
}

// settle is how long the outcome of a pass is to be kept back. Only waits are that pass: results, errors, and what the
// user has to know are published at once, and so is an address, which others wait for.
func (r *Reconciler) settle(before, after *kamajiv1alpha1.TenantControlPlane, outcome error, now time.Time) time.Duration {
	name := client.ObjectKeyFromObject(after)
	reason, _ := phase.Outcome(outcome)
	if !phase.IsWait(outcome) || !passing[reason] {
		r.publications.over(name)
		return 0
	}
	urgency := progress
	switch {
	case equality.Semantic.DeepEqual(before.Status, after.Status):
		return 0
	case before.Status.ControlPlaneEndpoint != after.Status.ControlPlaneEndpoint:
		urgency = address
	case phase.News(before.Status.Conditions, after.Status.Conditions) != nil:
		urgency = verdict
	}
	return r.publications.delay(name, reason, urgency, now)
}
