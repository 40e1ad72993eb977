// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// hostnames are the names that a tenant asks for, normalized: its own, by default what the gateway's template makes, and further ones,
// sorted.
func hostnames(tcp *kamajiv1alpha1.TenantControlPlane, gateway *v1alpha2.KamajiGateway) (own string, additional []string, err error) {
	spec := tcp.Spec.ControlPlane.KamajiGateway
	if spec.Hostname == "" {
		if own, err = route.NormalizeHost(defaultHostname(gateway, client.ObjectKeyFromObject(tcp))); err != nil {
			return "", nil, phase.Fatal(v1alpha2.HostnameInvalidReason,
				"spec.hostnameTemplate of KamajiGateway %s makes no valid name for this tenant: %v; set spec.controlPlane.kamajiGateway.hostname", gateway.Name, err)
		}
	} else if own, err = route.NormalizeHost(spec.Hostname); err != nil {
		return "", nil, phase.Fatal(v1alpha2.HostnameInvalidReason, "spec.controlPlane.kamajiGateway.hostname: %v", err)
	}
	for _, name := range spec.AdditionalHostnames {
		host, err := route.NormalizeHost(name)
		if err != nil {
			return "", nil, phase.Fatal(v1alpha2.HostnameInvalidReason, "spec.controlPlane.kamajiGateway.additionalHostnames: %v", err)
		}
		if host != own {
			additional = append(additional, host)
		}
	}
	slices.Sort(additional)
	return own, slices.Compact(additional), nil
}

// hostKeys are what hostIndex knows a tenant by: the names it asks for and the names it has. The default name is not known without
// the gateway's template, so the tenant's name stands for it, with and without the namespace.
func hostKeys(tcp *kamajiv1alpha1.TenantControlPlane) []string {
	var keys []string
	if spec := tcp.Spec.ControlPlane.KamajiGateway; spec != nil {
		if spec.Hostname == "" {
			keys = append(keys, defaultHostKey(spec.Name, "", tcp.Name), defaultHostKey(spec.Name, tcp.Namespace, tcp.Name))
		} else {
			keys = append(keys, hostKey(spec.Name, spec.Hostname))
		}
		for _, host := range spec.AdditionalHostnames {
			keys = append(keys, hostKey(spec.Name, host))
		}
	}
	if status := tcp.Status.KamajiGateway; status != nil {
		for _, host := range append([]string{status.Hostname}, status.AdditionalHostnames...) {
			keys = append(keys, hostKey(status.Name, host))
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func hostKey(gateway, host string) string {
	return gateway + "/" + strings.ToLower(strings.TrimSuffix(host, "."))
}

// defaultHostKey can't be a hostKey: no host name contains a slash.
func defaultHostKey(gateway, namespace, tenant string) string {
	return gateway + "//" + namespace + "/" + tenant
}

// keysOf are the keys under which hostIndex finds every tenant that asks for or has host.
func keysOf(gateway *v1alpha2.KamajiGateway, host string) []string {
	keys := []string{hostKey(gateway.Name, host)}
	for _, tenant := range named(gateway, host) {
		keys = append(keys, defaultHostKey(gateway.Name, tenant.Namespace, tenant.Name))
	}
	return keys
}

// holds tells whether the tenant's status gives it host on the gateway.
func holds(tcp *kamajiv1alpha1.TenantControlPlane, gateway, host string) bool {
	status := tcp.Status.KamajiGateway
	return status != nil && status.Name == gateway && (status.Hostname == host || slices.Contains(status.AdditionalHostnames, host))
}

// first is the one of several tenants that gets host: who has it already, then the oldest, then the first by namespace and name.
func first(tenants []*kamajiv1alpha1.TenantControlPlane, gateway, host string) *kamajiv1alpha1.TenantControlPlane {
	rank := func(tcp *kamajiv1alpha1.TenantControlPlane) int {
		if holds(tcp, gateway, host) {
			return 0
		}
		return 1
	}
	return slices.MinFunc(tenants, func(a, b *kamajiv1alpha1.TenantControlPlane) int {
		return cmp.Or(
			cmp.Compare(rank(a), rank(b)),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(a.Name, b.Name),
		)
	})
}

// conflict is a host name that several tenants ask for.
type conflict struct {
	host   string
	holder *kamajiv1alpha1.TenantControlPlane
}

// unique returns a Wait error, and who has the name, when another tenant gets one of the names. The message doesn't name it: it may
// belong to another customer.
func (r *TenantReconciler) unique(ctx context.Context, gateway *v1alpha2.KamajiGateway, tcp *kamajiv1alpha1.TenantControlPlane, names []string) (*conflict, error) {
	for _, host := range names {
		contenders := []*kamajiv1alpha1.TenantControlPlane{tcp}
		for _, key := range keysOf(gateway, host) {
			others, err := r.others(ctx, tcp, key)
			if err != nil {
				return nil, err
			}
			contenders = append(contenders, others...)
		}
		winner := first(contenders, gateway.Name, host)
		if client.ObjectKeyFromObject(winner) != client.ObjectKeyFromObject(tcp) {
			log.FromContext(ctx).V(1).Info("host name is taken", "host", host, "by", client.ObjectKeyFromObject(winner))
			return &conflict{host, winner}, phase.Wait(v1alpha2.HostnameConflictReason,
				"another tenant of gateway %s has the host name %s; set spec.controlPlane.kamajiGateway.hostname to another one", gateway.Name, host)
		}
	}
	return nil, nil
}

// others are the tenants besides tcp that hostIndex has under key, as the API server has them now: the cache may not know yet which
// of them was given the name by the last reconcile. There are none but in a conflict.
func (r *TenantReconciler) others(ctx context.Context, tcp *kamajiv1alpha1.TenantControlPlane, key string) ([]*kamajiv1alpha1.TenantControlPlane, error) {
	list := &kamajiv1alpha1.TenantControlPlaneList{}
	if err := r.Client.List(ctx, list, client.MatchingFields{hostIndex: key}); err != nil {
		return nil, fmt.Errorf("reading tenants with host name %s: %w", key, err)
	}
	var others []*kamajiv1alpha1.TenantControlPlane
	for i := range list.Items {
		name := client.ObjectKeyFromObject(&list.Items[i])
		if name == client.ObjectKeyFromObject(tcp) {
			continue
		}
		live := &kamajiv1alpha1.TenantControlPlane{}
		if err := r.Live.Get(ctx, name, live); apierrors.IsNotFound(err) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("reading TenantControlPlane %s: %w", name, err)
		}
		if slices.Contains(hostKeys(live), key) {
			others = append(others, live)
		}
	}
	return others, nil
}
