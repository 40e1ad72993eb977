// SPDX-License-Identifier: Apache-2.0

package generator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// reportedErrors bounds the status, which an object has 1.5 MiB for.
const reportedErrors = 100

// tally counts, for each generator, the tenants that it selects and what is wrong with them. It is filled by the first
// pass over each tenant after a start, and each change costs the same however many tenants there are.
type tally struct {
	mu         sync.Mutex
	generators map[string]*count
	tenants    map[string][]string
	// changed is told the name of a generator whose count has changed.
	changed func(generator string)
}

type count struct {
	selected map[string]bool
	errors   map[string]string
}

// set takes the verdicts of all generators that select a tenant.
func (t *tally) set(tenant string, verdicts map[string]error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range t.tenants[tenant] {
		if _, ok := verdicts[name]; !ok {
			t.remove(tenant, name)
		}
	}
	if t.generators == nil {
		t.generators, t.tenants = map[string]*count{}, map[string][]string{}
	}
	for name, err := range verdicts {
		c := t.generators[name]
		if c == nil {
			c = &count{selected: map[string]bool{}, errors: map[string]string{}}
			t.generators[name] = c
		}
		message := ""
		if err != nil {
			message = err.Error()
		}
		if c.selected[tenant] && c.errors[tenant] == message {
			continue
		}
		c.selected[tenant] = true
		delete(c.errors, tenant)
		if message != "" {
			c.errors[tenant] = message
		}
		t.tell(name)
	}
	t.tenants[tenant] = slices.Collect(maps.Keys(verdicts))
	if len(verdicts) == 0 {
		delete(t.tenants, tenant)
	}
}

// forget drops a tenant that is gone.
func (t *tally) forget(tenant string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range t.tenants[tenant] {
		t.remove(tenant, name)
	}
	delete(t.tenants, tenant)
}

func (t *tally) remove(tenant, generator string) {
	c := t.generators[generator]
	if c == nil {
		return
	}
	delete(c.selected, tenant)
	delete(c.errors, tenant)
	if len(c.selected) == 0 {
		delete(t.generators, generator)
	}
	t.tell(generator)
}

func (t *tally) tell(generator string) {
	if t.changed != nil {
		t.changed(generator)
	}
}

// fill writes what was counted into a status.
func (t *tally) fill(generator string, status *kamajiv1alpha1.KubeconfigGeneratorStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	status.Resources, status.AvailableResources, status.Errors = 0, 0, nil
	c := t.generators[generator]
	if c == nil {
		return
	}
	status.Resources = int32(len(c.selected))                          //nolint:gosec // far fewer
	status.AvailableResources = int32(len(c.selected) - len(c.errors)) //nolint:gosec // far fewer
	for _, tenant := range slices.Sorted(maps.Keys(c.errors)) {
		if len(status.Errors) == reportedErrors {
			break
		}
		status.Errors = append(status.Errors, kamajiv1alpha1.KubeconfigGeneratorError{Resource: tenant, Message: c.errors[tenant]})
	}
}

// reporter writes the status of generators.
type reporter struct {
	client client.Client
	tally  *tally
}

// Reconcile writes the status of one generator.
func (r *reporter) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	g := &kamajiv1alpha1.KubeconfigGenerator{}
	if err := r.client.Get(ctx, request.NamespacedName, g); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, fmt.Errorf("reading KubeconfigGenerator %s: %w", request.Name, err)
	}
	before := g.DeepCopy()
	r.tally.fill(g.Name, &g.Status)
	if _, paused := g.Annotations[kamajiv1alpha1.PausedAnnotation]; !paused {
		g.Status.ObservedGeneration = g.Generation
	}
	return ctrl.Result{}, phase.PatchStatus(ctx, r.client, before, g)
}
