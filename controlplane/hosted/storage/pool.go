// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
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
	loaded  map[string]loaded
}

type entry struct {
	driver Driver
	hash   string
	users  int
	stale  bool
}

// loadedFor is how long Open trusts what it has read. Secrets of DataStores are
// not in the cache, and a busy store must not cost its tenants a request each.
const loadedFor = time.Minute

// loaded is a configuration with what it was made from.
type loaded struct {
	config Config
	source string
	at     time.Time
}

// Open is Load and Acquire in one, for tenants: it may reuse a configuration that
// it has loaded within the last minute. Whoever checks the store itself, as the
// DataStore reconciler does, uses Load and Acquire.
func (p *Pool) Open(ctx context.Context, secrets client.Reader, store *kamajiv1alpha1.DataStore) (Config, Driver, func(), error) {
	source := fmt.Sprint(store.UID, "/", store.Generation, "/", store.Annotations[kamajiv1alpha1.EnableEtcdAuthAnnotation])
	p.mu.Lock()
	have, ok := p.loaded[store.Name]
	p.mu.Unlock()
	if !ok || have.source != source || time.Since(have.at) > loadedFor {
		config, err := Load(ctx, secrets, store)
		if err != nil {
			return Config{}, nil, nil, err
		}
		have = loaded{config: config, source: source, at: time.Now()}
		p.mu.Lock()
		p.loaded[store.Name] = have
		p.mu.Unlock()
	}
	driver, release, err := p.Acquire(have.config)
	return have.config, driver, release, err
}

// NewPool returns an empty pool that opens drivers with openers.
func NewPool(openers Openers) *Pool {
	return &Pool{openers: openers, entries: map[string]*entry{}, loaded: map[string]loaded{}}
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
				"DataStore %s: driver %q is not available in this release; use etcd, PostgreSQL, MySQL or NATS", cfg.Name, cfg.Driver)
		}
		driver, err := open(cfg)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			delete(p.loaded, cfg.Name)
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
	delete(p.loaded, name)
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
