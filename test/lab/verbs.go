// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cache"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/cluster"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/engine"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/hosts"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/images"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/lab"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/node"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

// namespaces are where the project's managers and data planes run.
var namespaces = []string{"kamaji-system", "rack-system"}

func assets(ctx context.Context, log *progress.Log, _ []string) error {
	dir, err := binaries.Assets(ctx, log)
	if err != nil {
		return err
	}
	fmt.Println(dir)
	return nil
}

func build(ctx context.Context, log *progress.Log, names []string) error {
	_, err := binaries.Build(ctx, log, names...)
	return err
}

func up(ctx context.Context, log *progress.Log, _ []string) error {
	if err := lab.Up(ctx, log); err != nil {
		return err
	}
	return status(ctx, log, nil)
}

func load(ctx context.Context, log *progress.Log, _ []string) error {
	archive, err := images.Product(ctx, log)
	if err != nil {
		return err
	}
	return log.Step("loading images", func() error {
		if err := cluster.Load(ctx, archive); err != nil {
			return err
		}
		return cluster.Restart(ctx, namespaces...)
	})
}

func provide(ctx context.Context, log *progress.Log, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("name what to provide: %s", strings.Join(images.OnDemand(), ", "))
	}
	for _, name := range names {
		if err := lab.Provide(ctx, log, name); err != nil {
			return err
		}
	}
	return nil
}

func status(ctx context.Context, _ *progress.Log, _ []string) error {
	kubeconfig, err := cluster.Kubeconfig()
	if err != nil {
		return err
	}
	key, err := hosts.PrivateKey()
	if err != nil {
		return err
	}
	public, err := cluster.PublicAddress(ctx)
	if err != nil {
		return err
	}
	private, err := cluster.PrivateAddress(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("kubeconfig       %s\nssh key          %s\ngateway public   %s\ngateway private  %s\n", kubeconfig, key, public, private)
	names, err := hosts.List(ctx)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		address, err := hosts.Address(ctx, name)
		if err != nil {
			return err
		}
		key, err := hosts.HostKey(ctx, name)
		if err != nil {
			return err
		}
		fmt.Printf("host             %s %s %s\n", name, address, key)
	}
	return nil
}

func down(ctx context.Context, log *progress.Log, _ []string) error {
	if !engine.Running(ctx) {
		return nil // nothing runs without the engine
	}
	return log.Step("removing cluster and hosts", func() error { return lab.Down(ctx) })
}

func purge(ctx context.Context, log *progress.Log, _ []string) error {
	if err := down(ctx, log, nil); err != nil {
		return err
	}
	dir, err := cache.Dir()
	if err != nil {
		return err
	}
	return log.Step("deleting caches", func() error {
		var problems []error
		if engine.Running(ctx) {
			problems = append(problems, node.Remove(ctx))
		}
		return errors.Join(append(problems, engine.Stop(), os.RemoveAll(dir))...)
	})
}
