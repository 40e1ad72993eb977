// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// resyncEvery is how long a change that nobody reports stays unnoticed: an
// object edited inside a tenant, a role removed in a datastore.
// Of many tenants it is longer, see checkPace.
const resyncEvery = 10 * time.Minute

// checkPace is the least time between the checks of two tenants. One takes some 90 ms of processor time, so that idle tenants
// take about a hundredth of a core however many there are (docs/benchmarks.md). A thousand are all looked at in some three hours.
const checkPace = 10 * time.Second

// task is something that is not seen in the management cluster's objects: what
// was brought in order outside, or was told.
type task string

const (
	taskStorage task = "storage"
	taskInside  task = "inside"
	taskDelete  task = "delete"
	taskRefusal task = "refusal"
	taskTrust   task = "trust"
	taskNodes   task = "nodes"
	taskMonitor task = "monitor"
	taskTokens  task = "tokens"
	// taskKubeconfigs is to look through kubeconfigs.
	taskKubeconfigs task = "kubeconfigs"
	// taskCertificate is followed by what a Certificate is for.
	taskCertificate task = "certificate/"
)

type memoryKey struct {
	tenant types.NamespacedName
	task   task
}

// memory knows which tasks were done, with which inputs, and when each is to be
// checked again. It exists only to save requests: an empty memory is right, too.
type memory struct {
	mu    sync.Mutex
	tasks map[memoryKey]*memorised
	// checks are when tenants are to be checked: all that is due of one in the same pass, since a pass has its own cost.
	checks map[types.NamespacedName]time.Time
	// planned is the latest of them.
	planned time.Time
}

type memorised struct {
	digest   string
	next     time.Time
	failures int
}

// done reports whether the task was done with these inputs and needs no check
// before the returned time.
func (m *memory) done(key memoryKey, inputs []string, now time.Time) (bool, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.tasks[key]
	if !ok || t.digest != digest(inputs...) || !now.Before(t.next) {
		return false, time.Time{}
	}
	return true, t.next
}

// remember notes that the task was done and returns when to check it again: when that is planned already.
func (m *memory) remember(key memoryKey, inputs []string, now time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	entry := m.entry(key)
	entry.digest, entry.failures = digest(inputs...), 0
	if !entry.next.After(now) {
		entry.next = m.check(key.tenant, now)
	}
	return entry.next
}

// check is when a tenant is to be checked again, of which something was checked now: as it was planned a moment ago for
// another task, or else behind all others, so that a thousand tenants made at once, or seen at start-up, do not stay in step.
func (m *memory) check(tenant types.NamespacedName, now time.Time) time.Time {
	if have, ok := m.checks[tenant]; ok && have.Sub(now) > resyncEvery/2 {
		return have
	}
	next := now.Add(resyncEvery)
	if free := m.planned.Add(checkPace); free.After(next) {
		next = free
	}
	if m.checks == nil {
		m.checks = map[types.NamespacedName]time.Time{}
	}
	m.checks[tenant], m.planned = next, next
	return next
}

// note keeps what is known until a time, without a check of it.
func (m *memory) note(key memoryKey, inputs []string, until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	entry := m.entry(key)
	entry.digest, entry.next = digest(inputs...), until
}

// backOff returns how long to wait after another failure of the task: first,
// doubled each time up to most.
func (m *memory) backOff(key memoryKey, first, most time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.entry(key)
	delay := most
	if t.failures < 16 && first<<t.failures < most {
		delay = first << t.failures
	}
	t.failures++
	return delay
}

// forget drops everything about a tenant that is gone.
func (m *memory) forget(tenant types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, task := range []task{taskStorage, taskInside, taskDelete, taskRefusal, taskTrust, taskNodes, taskTokens, taskMonitor, taskKubeconfigs, taskCertificate + kamajiv1alpha1.AuthoritySecret, taskCertificate + kamajiv1alpha1.PublicCertificateSecret} {
		delete(m.tasks, memoryKey{tenant: tenant, task: task})
	}
	delete(m.checks, tenant)
}

func (m *memory) entry(key memoryKey) *memorised {
	if m.tasks == nil {
		m.tasks = map[memoryKey]*memorised{}
	}
	if m.tasks[key] == nil {
		m.tasks[key] = &memorised{}
	}
	return m.tasks[key]
}

// digest identifies a list of values; each is preceded by its length.
func digest(values ...string) string {
	sum := sha256.New()
	for _, v := range values {
		fmt.Fprintf(sum, "%d:%s", len(v), v)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}
