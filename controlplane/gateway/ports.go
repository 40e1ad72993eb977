// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"iter"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

const (
	// Node components of Kubernetes listen on these ports of every address of a node, from kubelet's health (10248) to the
	// cloud controller manager (10258) and scheduler (10259) and what is reserved next to them.
	firstComponentPort, lastComponentPort = 10248, 10260
	// fullRecheck is when a tenant that found no free port tries again; released ports come free by the passage of time.
	fullRecheck = 5 * time.Minute
)

// candidates yields every port of r that a tenant may have, each once, in the order to try them: preferred (when it is usable), then a sequence
// that depends on the tenant's name only. So a tenant has good chances to find its port again in another management cluster,
// and tenants created at the same time rarely try the same port.
func candidates(r v1alpha2.PortRange, preferred int32, tenant types.NamespacedName) iter.Seq[int32] {
	return func(yield func(int32) bool) {
		usable := func(port int32) bool {
			return port >= r.First && port <= r.Last && (port < firstComponentPort || port > lastComponentPort)
		}
		if usable(preferred) && !yield(preferred) {
			return
		}
		size := uint64(r.Last - r.First + 1)
		hash := fnv.New64a()
		// Writing to a hash never fails.
		_, _ = hash.Write([]byte(tenant.String()))
		sum := hash.Sum64()
		// A step without common divisor with the size visits every port, and spreads collisions better than counting up.
		step := 1 + (sum>>32)%size
		for gcd(step, size) != 1 {
			step++
		}
		at := sum % size
		for range size {
			port := r.First + int32(at)
			if port != preferred && usable(port) && !yield(port) {
				return
			}
			at = (at + step) % size
		}
	}
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// leaseName is the name that makes creating a lease an atomic claim.
func leaseName(gateway string, port int32) string {
	return gateway + "-" + strconv.Itoa(int(port))
}

// port returns the tenant's port on the gateway and claims one when it has none. A lease it had before is taken up again, released or not:
// a tenant that was restored from a backup keeps its port.
func (r *TenantReconciler) port(ctx context.Context, gateway *v1alpha2.KamajiGateway, tenant types.NamespacedName, preferred int32) (int32, error) {
	held := &v1alpha2.GatewayPortLeaseList{}
	if err := r.Client.List(ctx, held, client.MatchingFields{leaseTenantIndex: leaseTenantKey(gateway.Name, tenant)}); err != nil {
		return 0, fmt.Errorf("reading port leases of %s: %w", tenant, err)
	}
	if len(held.Items) > 0 {
		lease := best(held.Items, preferred)
		return lease.Spec.Port, r.takeUp(ctx, lease)
	}
	ports := tenantPorts(gateway)
	for port := range candidates(ports, preferred, tenant) {
		ours, err := r.claim(ctx, gateway.Name, port, tenant)
		if err != nil {
			return 0, err
		}
		if ours {
			return port, nil
		}
	}
	return 0, phase.WaitFor(fullRecheck, v1alpha2.PortsExhaustedReason,
		"every port from %d to %d of gateway %s is taken or was released less than 24 hours ago; extend spec.tenantPorts of the gateway", ports.First, ports.Last, gateway.Name)
}

// best is the one of several leases of one tenant that it keeps: the one in its status, then one that wasn't released, then the oldest.
func best(leases []v1alpha2.GatewayPortLease, preferred int32) *v1alpha2.GatewayPortLease {
	rank := func(l v1alpha2.GatewayPortLease) int {
		switch {
		case l.Spec.Port == preferred:
			return 0
		case l.Status.ReleasedAt == nil:
			return 1
		}
		return 2
	}
	lease := slices.MinFunc(leases, func(a, b v1alpha2.GatewayPortLease) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Spec.Port, b.Spec.Port))
	})
	return &lease
}

// claim tries to make port the tenant's and tells whether it is.
func (r *TenantReconciler) claim(ctx context.Context, gateway string, port int32, tenant types.NamespacedName) (bool, error) {
	want := &v1alpha2.GatewayPortLease{
		ObjectMeta: metav1.ObjectMeta{Name: leaseName(gateway, port), Labels: map[string]string{GatewayLabel: gateway}},
		Spec: v1alpha2.GatewayPortLeaseSpec{
			Gateway: gateway, Port: port, Tenant: v1alpha2.LeaseTenant{Namespace: tenant.Namespace, Name: tenant.Name},
		},
	}
	key := client.ObjectKeyFromObject(want)
	// What the cache knows to be taken costs no request. It knows nothing of claims made a moment ago: those the create finds.
	if err := r.Client.Get(ctx, key, &v1alpha2.GatewayPortLease{}); err == nil {
		return false, nil
	} else if !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("reading GatewayPortLease %s: %w", key.Name, err)
	}
	err := r.Client.Create(ctx, want, client.FieldOwner(fieldOwner))
	if err == nil {
		return true, nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return false, fmt.Errorf("creating GatewayPortLease %s: %w", key.Name, err)
	}
	have := &v1alpha2.GatewayPortLease{}
	if err := r.Live.Get(ctx, key, have); apierrors.IsNotFound(err) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("reading GatewayPortLease %s: %w", key.Name, err)
	}
	if have.Spec.Tenant != want.Spec.Tenant {
		return false, nil
	}
	return true, r.takeUp(ctx, have)
}

// takeUp makes a released lease count again. The lock keeps it from being deleted at the same moment.
func (r *TenantReconciler) takeUp(ctx context.Context, lease *v1alpha2.GatewayPortLease) error {
	if lease.Status.ReleasedAt == nil {
		return nil
	}
	before := lease.DeepCopy()
	lease.Status.ReleasedAt = nil
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, lease, patch, client.FieldOwner(fieldOwner)); err != nil {
		return fmt.Errorf("taking up GatewayPortLease %s again: %w", lease.Name, err)
	}
	return nil
}
