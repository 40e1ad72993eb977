// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/provider"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

// pollEvery is how often a customer asks during a change, each time over a new connection.
const pollEvery = 50 * time.Millisecond

// changes measures what a customer notices of changes to a running tenant.
func changes(ctx context.Context, l *quickstart.Lab) error {
	b, err := newBench(ctx, l)
	if err != nil {
		return err
	}
	defer b.close(context.WithoutCancel(ctx))
	tenant := fleetTenant("changes")
	if err := b.client.Create(ctx, tenant); err != nil {
		return err
	}
	if err := b.allAnswer(ctx, 1); err != nil {
		return err
	}
	if err := b.scale(ctx, tenant.Name, 2); err != nil {
		return err
	}
	return b.rollOut(ctx, tenant.Name)
}

// scale adds a replica and counts the pods that had to go for it.
func (b *bench) scale(ctx context.Context, name string, replicas int32) error {
	before, err := b.podNames(ctx, name)
	if err != nil {
		return err
	}
	start := time.Now()
	patch := fmt.Sprintf(`{"spec":{"controlPlane":{"deployment":{"replicas":%d}}}}`, replicas)
	if err := b.client.Patch(ctx, fleetTenant(name), client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		return err
	}
	if err := b.settled(ctx, name, replicas, ""); err != nil {
		return err
	}
	took := seconds(start)
	after, err := b.podNames(ctx, name)
	if err != nil {
		return err
	}
	lost := 0
	for pod := range before {
		if !after[pod] {
			lost++
		}
	}
	report("scale-1-to-2", took, "s", "kamaji", 21.2, "one-pod's-start", 15)
	report("scale-1-to-2-replaced-pods", float64(lost), "pods", "kamaji", 1, "0", 0)
	return nil
}

// rollOut replaces all pods while a customer asks every 50 ms.
func (b *bench) rollOut(ctx context.Context, name string) error {
	kubeconfig, err := b.adminKubeconfig(ctx, name)
	if err != nil {
		return err
	}
	asking, stop := context.WithCancel(ctx)
	var (
		group         sync.WaitGroup
		asked, failed int
	)
	group.Go(func() {
		for tick := time.NewTicker(pollEvery); asking.Err() == nil; {
			asked++
			if err := provider.ProbeAPI(ctx, kubeconfig); err != nil {
				failed++
				fmt.Println("#", time.Now().Format(time.TimeOnly), err)
			}
			<-tick.C
		}
	})
	start := time.Now()
	err = b.client.Patch(ctx, fleetTenant(name), client.RawPatch("application/merge-patch+json",
		[]byte(`{"spec":{"controlPlane":{"deployment":{"podAdditionalMetadata":{"annotations":{"bench":"roll"}}}}}}`)))
	if err == nil {
		err = b.settled(ctx, name, 2, "roll")
	}
	took := seconds(start)
	stop()
	group.Wait()
	if err != nil {
		return err
	}
	report("roll-out-2-replicas", took, "s", "kamaji", 12.3, "-", took)
	report("roll-out-2-replicas-failed", float64(failed), "requests", "asked", float64(asked), "0", 0)
	return nil
}

// settled waits until a tenant's Deployment has only Ready pods of its present template, which has the mark, and none
// that still end.
func (b *bench) settled(ctx context.Context, name string, replicas int32, mark string) error {
	return quickstart.Until(ctx, "the rollout of "+name, func() error {
		deployment := &appsv1.Deployment{}
		if err := b.client.Get(ctx, client.ObjectKey{Namespace: fleetNamespace, Name: name}, deployment); err != nil {
			return err
		}
		status := deployment.Status
		if deployment.Spec.Template.Annotations["bench"] != mark || ptr.Deref(deployment.Spec.Replicas, 0) != replicas ||
			status.ObservedGeneration != deployment.Generation || status.UpdatedReplicas != replicas ||
			status.ReadyReplicas != replicas || status.Replicas != replicas {
			return fmt.Errorf("%d of %d are ready, %d updated", status.ReadyReplicas, replicas, status.UpdatedReplicas)
		}
		names, err := b.podNames(ctx, name)
		if err == nil && len(names) != int(replicas) {
			err = fmt.Errorf("%d pods exist", len(names))
		}
		return err
	})
}

func (b *bench) podNames(ctx context.Context, name string) (map[string]bool, error) {
	pods := &corev1.PodList{}
	if err := b.client.List(ctx, pods, client.InNamespace(fleetNamespace), client.MatchingLabels{"kamaji.clastix.io/name": name}); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, pod := range pods.Items {
		names[pod.Name] = true
	}
	return names, nil
}
