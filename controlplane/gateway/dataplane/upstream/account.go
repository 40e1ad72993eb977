// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"sync"
	"sync/atomic"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/relay"
)

// Account counts what one tenant does.
type Account struct {
	// Tenant is its namespace and name, with a slash between.
	Tenant string
	// Bytes are those moved so far, on open connections too.
	Bytes relay.Meter
	// Connections are all that were routed, Refused those that a limit or list of networks turned away.
	Connections, Refused atomic.Uint64

	active   [sides]atomic.Int64 // open connections
	backends int                 // that lead to the tenant; kept by Accounts
	place    place
}

// Side is one of the two ways to a tenant, which have limits of their own: customers must not keep workers out.
type Side uint8

// The sides.
const (
	Private Side = iota
	Public
	sides
)

// Acquire counts a connection in, by whatever route of that side it comes. False when limit are open; 0: no limit.
func (a *Account) Acquire(side Side, limit int64) bool {
	if n := a.active[side].Add(1); limit > 0 && n > limit {
		a.active[side].Add(-1)
		return false
	}
	a.Connections.Add(1)
	return true
}

// Release counts a connection out.
func (a *Account) Release(side Side) { a.active[side].Add(-1) }

// place is how an account is reported. It never changes once it was decided, so that no sum ever falls.
type place uint8

const (
	undecided place = iota
	byName
	amongOthers
)

// Totals are the figures of an account, or of several.
type Totals struct {
	Active                               int64
	Connections, Refused, Sent, Received uint64
}

func (t *Totals) add(a *Account) {
	for i := range a.active {
		t.Active += a.active[i].Load()
	}
	t.Connections += a.Connections.Load()
	t.Refused += a.Refused.Load()
	t.Sent += a.Bytes.Sent.Load()
	t.Received += a.Bytes.Received.Load()
}

// Accounts are all accounts.
type Accounts struct {
	mu       sync.Mutex
	byTenant map[string]*Account
	names    int    // accounts that have a place
	gone     Totals // of the accounts that were closed
	others   Totals // of those among them that had no place
}

func newAccounts() *Accounts { return &Accounts{byTenant: map[string]*Account{}} }

// open returns the account of a tenant for one more backend.
func (s *Accounts) open(tenant string) *Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.byTenant[tenant]
	if a == nil {
		a = &Account{Tenant: tenant}
		s.byTenant[tenant] = a
	}
	a.backends++
	return a
}

// close takes note that a backend of the tenant is gone.
func (s *Accounts) close(a *Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.backends--; a.backends > 0 {
		return
	}
	delete(s.byTenant, a.Tenant)
	s.gone.add(a)
	s.gone.Active = 0
	if a.place == byName {
		s.names--
		return
	}
	s.others.add(a)
	s.others.Active = 0
}

// Report calls named for each of at most limit tenants, always the same as long as they exist: those that had connections first. It
// returns the figures of the other tenants and of all, whose counts never fall.
func (s *Accounts) Report(limit int, named func(tenant string, t Totals)) (others, all Totals) {
	s.mu.Lock()
	defer s.mu.Unlock()
	others, all = s.others, s.gone
	for _, a := range s.byTenant {
		all.add(a)
		if a.place == undecided && a.Connections.Load()+a.Refused.Load() > 0 {
			if a.place = amongOthers; s.names < limit {
				a.place = byName
				s.names++
			}
		}
		if a.place != byName {
			others.add(a)
			continue
		}
		var t Totals
		t.add(a)
		named(a.Tenant, t)
	}
	return others, all
}
