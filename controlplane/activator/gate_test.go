// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func name(i int) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: fmt.Sprint("t", i)}
}

// A crowd at one tenant takes its share, and waits; another tenant's clients don't.
func TestShares(t *testing.T) {
	g, now := newGate(), time.Now()
	entered, waits := 0, time.Duration(0)
	for range 600 {
		if !g.accept() {
			t.Fatal("600 connections are too many")
		}
		if wait, ok := g.enter(name(0), now); ok {
			entered++
			waits = max(waits, wait)
		}
	}
	if entered != maxTenantConnections || waits == 0 || waits > longest {
		t.Errorf("%d of 600 have entered, the last after %s", entered, waits)
	}
	if wait, ok := g.enter(name(1), now); !ok || wait != 0 {
		t.Errorf("a client of another tenant: %t after %s", ok, wait)
	}
	g.leave(name(0))
	if _, ok := g.enter(name(0), now); !ok {
		t.Error("a place that got free is not given")
	}
}

func TestRates(t *testing.T) {
	g, now := newGate(), time.Now()
	come := func(tenant int) bool {
		g.accept()
		_, ok := g.enter(name(tenant), now)
		if ok {
			g.leave(name(tenant))
		} else {
			g.leave(types.NamespacedName{})
		}
		return ok
	}
	entered := 0
	for range 2000 {
		if come(0) {
			entered++
		}
	}
	if want := perTenantSecond * (burst + int(longest/time.Second)); entered != want {
		t.Errorf("%d of 2000 connections that end at once have entered, want %d", entered, want)
	}
	for i := range 40 {
		for range 100 {
			come(1 + i)
		}
	}
	if come(99) {
		t.Error("all tenants together are not limited")
	}
	now = now.Add(time.Minute + 10*time.Second)
	if !come(0) {
		t.Error("a minute later nobody is let in")
	}
	if len(g.tenants) != 1 || g.open != 0 {
		t.Errorf("%d tenants are remembered, %d connections open", len(g.tenants), g.open)
	}
}

func TestAll(t *testing.T) {
	g := newGate()
	for range maxConnections {
		if !g.accept() {
			t.Fatal("not even the limit is accepted")
		}
	}
	if g.accept() {
		t.Error("more than the limit are accepted")
	}
	g.leave(types.NamespacedName{})
	if !g.accept() {
		t.Error("a place that got free is not given")
	}
}
