// SPDX-License-Identifier: Apache-2.0

package migration_test

import (
	"context"
	"errors"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/migration"
)

func TestJobs(t *testing.T) {
	name, woken := types.NamespacedName{Name: "a"}, make(chan types.NamespacedName, 8)
	jobs := migration.Jobs{Wake: func(n types.NamespacedName) { woken <- n }}
	started, proceed := make(chan struct{}), make(chan struct{})
	runs := 0
	work := func(context.Context, *migration.Progress) error {
		runs++
		close(started)
		<-proceed
		return nil
	}
	for range 2 {
		jobs.Run(name, "1/copy", work)
	}
	<-started
	if state, _, _ := jobs.Look(name, "1/copy"); state != migration.Running {
		t.Errorf("a running job is %q", state)
	}
	if state, _, _ := jobs.Look(name, "2/copy"); state != migration.Absent {
		t.Errorf("a job of another attempt is %q", state)
	}
	close(proceed)
	if n := <-woken; n != name {
		t.Errorf("woke %v", n)
	}
	jobs.Run(name, "1/copy", work)
	if state, _, err := jobs.Look(name, "1/copy"); state != migration.Succeeded || err != nil || runs != 1 {
		t.Errorf("%q after %d runs, %v", state, runs, err)
	}

	// The next job of the tenant ends the one before it, and waits for that.
	ended, begun := false, make(chan struct{})
	jobs.Run(name, "1/stop", func(ctx context.Context, _ *migration.Progress) error {
		close(begun)
		<-ctx.Done()
		ended = true
		return ctx.Err()
	})
	<-begun
	failed := errors.New("failed")
	jobs.Run(name, "1/seal", func(context.Context, *migration.Progress) error { return failed })
	if !ended {
		t.Error("two jobs of a tenant run at the same time")
	}
	<-woken
	<-woken
	if state, _, err := jobs.Look(name, "1/seal"); state != migration.Broken || !errors.Is(err, failed) {
		t.Errorf("%q, %v", state, err)
	}
	jobs.Stop(name)
	if state, _, _ := jobs.Look(name, "1/seal"); state != migration.Absent {
		t.Errorf("a stopped job is %q", state)
	}
}

// Only some tenants are worked on at a time; the others have not begun, and can be stopped.
func TestJobsTakeTurns(t *testing.T) {
	jobs := migration.Jobs{}
	begun, proceed := make(chan string, 16), make(chan struct{})
	names := []string{"a", "b", "c", "d", "e", "f"}
	for _, name := range names {
		jobs.Run(types.NamespacedName{Name: name}, "1", func(context.Context, *migration.Progress) error {
			begun <- name
			<-proceed
			return nil
		})
	}
	working := map[string]bool{}
	for range 4 {
		working[<-begun] = true
	}
	for _, name := range names {
		if !working[name] {
			jobs.Stop(types.NamespacedName{Name: name})
		}
	}
	close(proceed)
	if len(begun) != 0 {
		t.Errorf("%s began, too", <-begun)
	}
}
