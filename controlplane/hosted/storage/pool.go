// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"sync"
)

// Opener makes a driver from a configuration without dialling.
type Opener func(Config) (Driver, error)

// Openers maps DataStore.spec.driver to its implementation.
type Openers map[string]Opener

// Pool shares one driver, and so one set of connections, among all tenants of
// a DataStore. A driver is replaced when its configuration changes; the old one
// is closed when its last user has released it.
type Pool struct {
	openers Openers

	mu      sync.Mutex
	entries map[string]*entry
}

type entry struct {
	driver Driver
	hash   string
	users  int
	stale  bool
}

// NewPool returns an empty pool that opens drivers with openers.
func NewPool(openers Openers) *Pool {
	return &Pool{openers: openers, entries: map[string]*entry{}}
}

// Acquire returns the driver for cfg and a function that gives it back, which
// must be called exactly once. A driver this build does not have fails with
// ReasonDriverNotSupported.
func (p *Pool) Acquire(cfg Config) (Driver, func(), error) {
	hash := cfg.Hash()
	p.mu.Lock()
	defer p.mu.Unlock()

	e, ok := p.entries[cfg.Name]
	if !ok || e.hash != hash {
		open, known := p.openers[cfg.Driver]
		if !known {
			return nil, nil, Errorf(ReasonDriverNotSupported,
				"DataStore %s: driver %q is not available in this release; use etcd", cfg.Name, cfg.Driver)
		}
		driver, err := open(cfg)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			p.retire(e)
		}
		e = &entry{driver: driver, hash: hash}
		p.entries[cfg.Name] = e
	}
	e.users++
	return e.driver, sync.OnceFunc(func() { p.release(e) }), nil
}

// Forget closes the driver of a DataStore that no longer exists.
func (p *Pool) Forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.entries[name]; ok {
		delete(p.entries, name)
		p.retire(e)
	}
}

// Start closes all drivers when ctx ends, which makes the pool a manager
// Runnable.
func (p *Pool) Start(ctx context.Context) error {
	<-ctx.Done()
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, e := range p.entries {
		delete(p.entries, name)
		p.retire(e)
	}
	return nil
}

func (p *Pool) release(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.users--
	p.closeIdle(e)
}

func (p *Pool) retire(e *entry) {
	e.stale = true
	p.closeIdle(e)
}

// closeIdle ignores Close's error: the connection is of no further use, and
// nobody could act on it.
func (p *Pool) closeIdle(e *entry) {
	if e.stale && e.users == 0 {
		_ = e.driver.Close()
	}
}
