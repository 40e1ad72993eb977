// SPDX-License-Identifier: Apache-2.0

// Package lab puts the parts together: from a bare machine to a running
// management cluster and hosts to rack.
package lab

import (
	"context"
	"errors"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cluster"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/engine"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/hosts"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/images"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/node"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/rootfs"
)

// Hosts is how many hosts the lab has.
const Hosts = 2

// Up brings everything up. Parts that exist and run are kept, so calling it
// again is quick.
func Up(ctx context.Context, log *progress.Log) error {
	image, err := Image(ctx, log)
	if err != nil {
		return err
	}
	fresh, err := cluster.Up(ctx, log, image)
	if err != nil {
		return err
	}
	for number := range Hosts {
		name := hosts.Name(number)
		if fresh {
			// What it carries is of a cluster that is gone: it would be quarantined.
			if err := hosts.Delete(ctx, name); err != nil {
				return err
			}
		}
		if err := log.Step("starting "+name, func() error { return hosts.Create(ctx, name, image) }); err != nil {
			return err
		}
	}
	return nil
}

// Image sees to the engine and returns the name of the node image in it, which
// nodes of the management cluster and hosts run from. Cold it takes about half
// an hour of two cores, most of it the Go compiler's.
func Image(ctx context.Context, log *progress.Log) (string, error) {
	if err := engine.Ensure(ctx, log); err != nil {
		return "", err
	}
	roots, err := rootfs.Build(ctx, log)
	if err != nil {
		return "", err
	}
	mode, err := images.Choose(ctx)
	if err != nil {
		return "", err
	}
	set, err := binaries.Build(ctx, log, mode.Modules()...)
	if err != nil {
		return "", err
	}
	archive, err := images.Ensure(ctx, log, mode.Source(set, roots))
	if err != nil {
		return "", err
	}
	image, err := node.Ensure(ctx, log, set, roots, archive)
	if err != nil {
		return "", err
	}
	return image, cache.Sweep()
}

// Down removes hosts and cluster.
func Down(ctx context.Context) error {
	names, err := hosts.List(ctx)
	if err != nil {
		return err
	}
	var problems []error
	for _, name := range names {
		problems = append(problems, hosts.Delete(ctx, name))
	}
	return errors.Join(append(problems, cluster.Down(ctx))...)
}
