// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

const (
	// startsPerCPU is how many control planes may start at once for each core of the
	// nodes. A start takes some eight seconds of processor time, and waits for little else: with more of them each takes
	// longer and none is ready earlier. kube-controller-manager gives up when its API server is not healthy ten seconds
	// after it has become the leader, and then starts anew, which makes a crowded node more crowded still.
	startsPerCPU = 1
	// fewestStarts is the limit where the nodes are not known, or tiny.
	fewestStarts = 2
	// startPatience is how long a start counts. One that takes longer is stuck for a
	// reason of its own, and must not be in the way of others.
	startPatience = 3 * time.Minute
)

// queued is a tenant that waits for its turn.
type queued struct {
	name types.NamespacedName
	// since orders the queue, and survives a restart: the creation of the tenant.
	since time.Time
}

// starts limits how many control planes start at the same time. It knows only
// what this process has seen; after a restart the queue forms again from the
// tenants themselves, each of which is reconciled once.
type starts struct {
	// limit is how many may start now, nil for fewestStarts.
	limit func() int
	// wake makes a tenant be reconciled whose turn has come; nil where nobody waits.
	wake func(types.NamespacedName)

	mu      sync.Mutex
	running map[types.NamespacedName]time.Time
	queue   []queued
}

// turn is the answer to a tenant that wants to start.
type turn struct {
	// position in the queue from 1, or 0 if the tenant may start.
	position int
	// running is how many are starting.
	running int
	// again is when to ask again at the latest.
	again time.Duration
}

// ask lets a tenant start, or puts it into the queue. Who has been let in once
// stays in until over, also when its start takes so long that it doesn't count.
func (q *starts) ask(name types.NamespacedName, since, now time.Time) turn {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.running[name]; !ok && !slices.ContainsFunc(q.queue, func(e queued) bool { return e.name == name }) {
		at := slices.IndexFunc(q.queue, func(e queued) bool { return e.since.After(since) })
		if at < 0 {
			at = len(q.queue)
		}
		q.queue = slices.Insert(q.queue, at, queued{name: name, since: since})
	}
	q.advance(now, name)
	position := slices.IndexFunc(q.queue, func(e queued) bool { return e.name == name }) + 1
	out := turn{position: position, running: q.counting(now)}
	if position > 0 {
		// Nobody tells when a start stops to count.
		out.again = startPatience
		for _, begun := range q.running {
			if left := begun.Add(startPatience).Sub(now); left > 0 {
				out.again = min(out.again, left)
			}
		}
	}
	return out
}

// started notes a start that is under way already, whatever the limit is.
func (q *starts) started(name types.NamespacedName, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.running[name]; !ok {
		q.admit(name, now)
	}
}

// over notes that a tenant has started, or doesn't want to any more.
func (q *starts) over(name types.NamespacedName, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, name)
	q.queue = slices.DeleteFunc(q.queue, func(e queued) bool { return e.name == name })
	q.advance(now, types.NamespacedName{})
}

// advance admits from the head of the queue what fits, and wakes all but asking,
// which is being reconciled.
func (q *starts) advance(now time.Time, asking types.NamespacedName) {
	limit := fewestStarts
	if q.limit != nil {
		limit = max(q.limit(), 1)
	}
	for len(q.queue) > 0 && q.counting(now) < limit {
		next := q.queue[0].name
		q.queue = slices.Delete(q.queue, 0, 1)
		q.admit(next, now)
		if next != asking && q.wake != nil {
			q.wake(next)
		}
	}
}

func (q *starts) admit(name types.NamespacedName, now time.Time) {
	if q.running == nil {
		q.running = map[types.NamespacedName]time.Time{}
	}
	q.running[name] = now
}

// counting is how many starts there are, without those that are stuck.
func (q *starts) counting(now time.Time) int {
	n := 0
	for _, begun := range q.running {
		if now.Sub(begun) < startPatience {
			n++
		}
	}
	return n
}

// pace lets the pods of a tenant start, or says that they have to wait. Only what
// starts pods is paced: not a change of replicas, and not the way back to pods
// that run.
func (r *Reconciler) pace(s *scope, live, wanted *appsv1.Deployment) error {
	key := client.ObjectKeyFromObject(s.tenant)
	same := live.Annotations[desired.TemplateAnnotation] == wanted.Annotations[desired.TemplateAnnotation]
	awake := live.UID != "" && ptr.Deref(live.Spec.Replicas, 1) > 0
	if s.replicas() == 0 || same && awake || s.course.Failed != "" {
		return nil
	}
	answer := r.queue.ask(key, s.tenant.CreationTimestamp.Time, s.now)
	if answer.position == 0 {
		return nil
	}
	return phase.WaitFor(answer.again, kamajiv1alpha1.StartQueuedReason,
		"waits for its turn to start pods: number %d in the queue, while %d control planes start, as many as the nodes can boot at once", answer.position, answer.running)
}

// paced notes how a start goes on.
func (r *Reconciler) paced(s *scope, outcome error) {
	key := client.ObjectKeyFromObject(s.tenant)
	if reason, _ := phase.Outcome(outcome); reason == kamajiv1alpha1.RolloutInProgressReason {
		r.queue.started(key, s.now)
		return
	}
	r.queue.over(key, s.now)
}
