// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/provider"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/quickstart"
)

// peerTenants is how many tenants the peer's memory was measured with.
const peerTenants = 10

// fleetInterval is between two looks at many tenants or pods. Lists of TenantControlPlanes every 200 ms were a fifth of what the
// management API server did while thirty were made, without the garbage they left.
const fleetInterval = time.Second

// fleetNamespace holds the tenants that are made at once.
const fleetNamespace = "bench"

// fleet makes 10 and 30 tenants at once, without Cluster API, and deletes them again.
func fleet(ctx context.Context, l *quickstart.Lab) error {
	b, err := newBench(ctx, l)
	if err != nil {
		return err
	}
	defer b.close(context.WithoutCancel(ctx))
	for _, count := range []int{peerTenants, 30} {
		if err := b.together(ctx, count); err != nil {
			return fmt.Errorf("%d tenants at once: %w", count, err)
		}
	}
	return nil
}

// together measures count tenants from their creation until the last one answers with its administrator's kubeconfig,
// beside their pods made by hand at the same moment.
func (b *bench) together(ctx context.Context, count int) error {
	before, err := b.costs(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	for i := range count {
		if err := b.client.Create(ctx, fleetTenant(tenantName(i))); err != nil {
			return err
		}
	}
	if err := b.allAnswer(ctx, count); err != nil {
		return err
	}
	took := seconds(start)
	after, err := b.costs(ctx)
	if err != nil {
		return err
	}
	restarts, created, err := b.pods(ctx)
	if err != nil {
		return err
	}
	name, tenants := fmt.Sprintf("%d-at-once", count), float64(count)
	if count == peerTenants {
		if err := b.resting(ctx, name); err != nil {
			return fmt.Errorf("measuring idle tenants: %w", err)
		}
	}
	// Many pods at once may never be ready: they starve each other.
	limit := min(max(2*took, time.Minute.Seconds()), (7 * time.Minute).Seconds())
	floor, err := b.floor(ctx, count, limit)
	if err != nil {
		return fmt.Errorf("measuring the floor: %w", err)
	}
	peer := "same-pods-by-hand"
	if floor > limit {
		peer += "-not-in"
	}
	report(name, took, "s", peer, floor, "<=1.3x", 1.3*floor)
	report(name+"-restarts", float64(restarts), "restarts", "-", 0, "0", 0)
	report(name+"-pods", float64(created), "pods", "tenants", tenants, "1-each", tenants)
	report(name+"-manager-cpu", (after.cpu-before.cpu)/tenants, "s/tenant", "kamaji", 3.66, "<=0.3s", 0.3)
	// Kamaji's were counted without Events.
	report(name+"-writes", (after.writes-before.writes)/tenants, "writes/tenant", "kamaji", 123, "<=30", 30)
	events := (after.events - before.events) / tenants
	report(name+"-events", events, "Events/tenant", "-", 0, "-", events)
	report(name+"-datastore-writes", (after.dataStoreWrites-before.dataStoreWrites)/tenants, "writes/tenant", "kamaji", 27, "<=1", 1)
	report(name+"-manager-memory", (after.memory-before.memory)/tenants, "MiB/tenant", "kamaji", 5, "<=0.5MiB", 0.5)
	return b.deleteAll(ctx, count)
}

func tenantName(i int) string { return fmt.Sprintf("fleet-%02d", i) }

// fleetTenant is a tenant with all addons and defaults, but for one replica.
func fleetTenant(name string) *kamajiv1alpha1.TenantControlPlane {
	tenant := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: fleetNamespace, Name: name}}
	tenant.Spec.Kubernetes.Version = quickstart.Version
	tenant.Spec.ControlPlane.Deployment.Replicas = ptr.To[int32](1)
	tenant.Spec.ControlPlane.Service.ServiceType = kamajiv1alpha1.ServiceTypeClusterIP
	tenant.Spec.ControlPlane.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{Name: "default", Hostname: name + "." + fleetNamespace + "." + quickstart.Domain}
	tenant.Spec.Addons.CoreDNS = &kamajiv1alpha1.AddonSpec{}
	tenant.Spec.Addons.KubeProxy = &kamajiv1alpha1.AddonSpec{}
	tenant.Spec.Addons.Konnectivity = &kamajiv1alpha1.KonnectivitySpec{KonnectivityServerSpec: kamajiv1alpha1.KonnectivityServerSpec{Port: kamajiv1alpha1.DefaultKonnectivityPort}}
	return tenant
}

// allAnswer waits until every tenant is Ready and answers.
func (b *bench) allAnswer(ctx context.Context, count int) error {
	answered := map[string]bool{}
	return quickstart.Every(ctx, fleetInterval, fmt.Sprintf("%d tenants", count), func() error {
		tenants := &kamajiv1alpha1.TenantControlPlaneList{}
		if err := b.client.List(ctx, tenants, client.InNamespace(fleetNamespace)); err != nil {
			return err
		}
		var waiting error
		for i := range tenants.Items {
			tenant := &tenants.Items[i]
			if answered[tenant.Name] {
				continue
			}
			if err := b.answers(ctx, tenant); err != nil {
				waiting = err
				continue
			}
			answered[tenant.Name] = true
		}
		if len(answered) < count {
			return errors.Join(fmt.Errorf("%d of %d answer", len(answered), count), waiting)
		}
		return nil
	})
}

// answers asks a tenant as its administrator does, at the gateway's public address.
func (b *bench) answers(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane) error {
	if !meta.IsStatusConditionTrue(tenant.Status.Conditions, phase.Ready) {
		return fmt.Errorf("%s is not Ready", tenant.Name)
	}
	kubeconfig, err := b.adminKubeconfig(ctx, tenant.Name)
	if err != nil {
		return err
	}
	return provider.ProbeAPI(ctx, kubeconfig)
}

// floor stops all tenants' pods and starts copies of them at once. It returns after how many seconds all were Ready; more than limit if they
// were not by then.
func (b *bench) floor(ctx context.Context, count int, limit float64) (float64, error) {
	// All first: a pass that had begun before has ended when its tenant's pods are stopped.
	for i := range count {
		if err := b.pause(ctx, tenantName(i), true); err != nil {
			return 0, err
		}
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return 0, err
	}
	var copies []*corev1.Pod
	for i := range count {
		pod, err := b.still(ctx, tenantName(i))
		if err != nil {
			return 0, err
		}
		copies = append(copies, bareCopy(pod, tenantName(i)+"-by-hand"))
	}
	if err := b.noPods(ctx); err != nil {
		return 0, err
	}
	start := time.Now()
	for _, pod := range copies {
		if err := b.client.Create(ctx, pod); err != nil {
			return 0, err
		}
	}
	err := quickstart.Every(ctx, fleetInterval, "Ready pods", func() error {
		err := b.ready(ctx, len(copies))
		if seconds(start) > limit {
			return nil
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	took := seconds(start)
	for _, pod := range copies {
		if err := b.client.Delete(ctx, pod, client.GracePeriodSeconds(1)); err != nil {
			return 0, err
		}
	}
	if err := b.noPods(ctx); err != nil {
		return 0, err
	}
	for i := range count {
		if err := b.pause(ctx, tenantName(i), false); err != nil {
			return 0, err
		}
	}
	return took, b.allAnswer(ctx, count)
}

// deleteAll deletes one tenant, then all others at once, and waits until pods and Secrets are gone.
func (b *bench) deleteAll(ctx context.Context, count int) error {
	start := time.Now()
	if err := b.client.Delete(ctx, fleetTenant(tenantName(0))); err != nil {
		return err
	}
	if err := b.gone(ctx, client.MatchingLabels{"kamaji.clastix.io/name": tenantName(0)}); err != nil {
		return err
	}
	one := seconds(start)
	start = time.Now()
	for i := 1; i < count; i++ {
		if err := b.client.Delete(ctx, fleetTenant(tenantName(i))); err != nil {
			return err
		}
	}
	if err := b.gone(ctx); err != nil {
		return err
	}
	all := seconds(start)
	switch count {
	case peerTenants: // thirty fill the processors when the last has become Ready
		report("delete-one", one, "s", "kamaji", 2.3, "<=3s", 3)
	case 30:
		report("delete-30", all, "s", "-", 0, "<=60s", 60)
	}
	return nil
}

// gone waits until no tenant, pod or Secret that matches is left.
func (b *bench) gone(ctx context.Context, options ...client.ListOption) error {
	options = append(options, client.InNamespace(fleetNamespace))
	return quickstart.Until(ctx, "deleted tenants to be gone", func() error {
		for _, list := range []client.ObjectList{&kamajiv1alpha1.TenantControlPlaneList{}, &corev1.PodList{}, &corev1.SecretList{}} {
			ours := options
			if _, isTenant := list.(*kamajiv1alpha1.TenantControlPlaneList); isTenant && len(options) > 1 {
				continue // it has no labels, and its Secrets go last
			}
			if err := b.client.List(ctx, list, ours...); err != nil {
				return err
			}
			if n := metaLen(list); n > 0 {
				return fmt.Errorf("%d left in %T", n, list)
			}
		}
		return nil
	})
}

func metaLen(list client.ObjectList) int {
	switch l := list.(type) {
	case *kamajiv1alpha1.TenantControlPlaneList:
		return len(l.Items)
	case *corev1.PodList:
		return len(l.Items)
	case *corev1.SecretList:
		return len(l.Items)
	}
	return 0
}

// pause stops the engine's work on a tenant, or lets it go on.
func (b *bench) pause(ctx context.Context, name string, on bool) error {
	value := "null"
	if on {
		value = `"true"`
	}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%s}}}`, kamajiv1alpha1.PausedAnnotation, value)
	return client.IgnoreNotFound(b.client.Patch(ctx, fleetTenant(name), client.RawPatch("application/merge-patch+json", []byte(patch))))
}

// makeNamespace makes the namespace of the fleet anew.
func (b *bench) makeNamespace(ctx context.Context) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fleetNamespace}}
	if err := client.IgnoreNotFound(b.client.Delete(ctx, namespace.DeepCopy())); err != nil {
		return err
	}
	return quickstart.Until(ctx, "namespace "+fleetNamespace, func() error {
		err := b.client.Create(ctx, namespace.DeepCopy())
		if apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("the former one is still being deleted: %w", err)
		}
		return err
	})
}
