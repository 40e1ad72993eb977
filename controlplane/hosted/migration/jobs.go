// SPDX-License-Identifier: Apache-2.0

package migration

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// State is how a job stands.
type State string

// The states of a job.
const (
	Absent    State = ""
	Running   State = "Running"
	Succeeded State = "Succeeded"
	Broken    State = "Broken"
)

// parallel is how many tenants are worked on at a time. The others wait, and are
// not frozen meanwhile.
const parallel = 4

// retryAfter is the pause between two runs of a job that failed.
const retryAfter = 2 * time.Second

// Progress is what a job tells while it runs.
type Progress struct {
	// Keys and Bytes were copied so far.
	Keys, Bytes atomic.Int64
	frozen      atomic.Pointer[time.Time]
	seal        atomic.Pointer[string]
}

// Froze notes that writes are refused from now on.
func (p *Progress) Froze(at time.Time, seal string) {
	p.frozen.CompareAndSwap(nil, &at)
	p.seal.Store(&seal)
}

// Frozen is when writes were first refused, and the seal of what was there; the
// time is zero before that.
func (p *Progress) Frozen() (time.Time, string) {
	at, seal := p.frozen.Load(), p.seal.Load()
	if at == nil || seal == nil {
		return time.Time{}, ""
	}
	return *at, *seal
}

// Jobs runs at most one job for each tenant, beside the reconciler, so that long
// copies keep no worker from other tenants. What it knows is lost with the
// process; every job can be run again.
type Jobs struct {
	// Wake is called when a job has ended.
	Wake func(types.NamespacedName)

	mu    sync.Mutex
	jobs  map[types.NamespacedName]*job
	slots chan struct{}
}

type job struct {
	id       string
	cancel   context.CancelFunc
	progress *Progress
	state    State
	err      error
	ended    time.Time
	done     chan struct{}
}

// Run starts work under the id, unless that runs already, has succeeded, or
// failed a moment ago. A job with another id is stopped first, and waited for.
func (j *Jobs) Run(tenant types.NamespacedName, id string, work func(context.Context, *Progress) error) {
	j.mu.Lock()
	old := j.jobs[tenant]
	j.mu.Unlock()
	if old != nil && old.id != id {
		j.Stop(tenant)
		old = nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if old != nil && (old.state != Broken || time.Since(old.ended) < retryAfter) {
		return
	}
	if j.jobs == nil {
		j.jobs, j.slots = map[types.NamespacedName]*job{}, make(chan struct{}, parallel)
	}
	// It outlives the pass that starts it.
	ctx, cancel := context.WithCancel(context.Background())
	next := &job{id: id, cancel: cancel, progress: &Progress{}, state: Running, done: make(chan struct{})}
	j.jobs[tenant] = next
	go j.run(ctx, tenant, next, work)
}

func (j *Jobs) run(ctx context.Context, tenant types.NamespacedName, current *job, work func(context.Context, *Progress) error) {
	defer close(current.done)
	var err error
	select {
	case j.slots <- struct{}{}:
		err = work(ctx, current.progress)
		<-j.slots
	case <-ctx.Done():
		err = ctx.Err()
	}
	current.cancel()
	j.mu.Lock()
	current.state, current.err, current.ended = Succeeded, err, time.Now()
	if err != nil {
		current.state = Broken
	}
	j.mu.Unlock()
	if j.Wake != nil {
		j.Wake(tenant)
	}
}

// Look returns how the job with the id stands, and Absent when there is none.
func (j *Jobs) Look(tenant types.NamespacedName, id string) (State, *Progress, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	have, ok := j.jobs[tenant]
	if !ok || have.id != id {
		return Absent, &Progress{}, nil
	}
	return have.state, have.progress, have.err
}

// Stop ends a tenant's job and waits until it has let go.
func (j *Jobs) Stop(tenant types.NamespacedName) {
	j.mu.Lock()
	have := j.jobs[tenant]
	delete(j.jobs, tenant)
	j.mu.Unlock()
	if have != nil {
		have.cancel()
		<-have.done
	}
}
