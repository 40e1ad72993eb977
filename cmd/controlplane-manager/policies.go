// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/tenant"
)

// policies are the settings of tenants' NetworkPolicies, nil for none.
func policies(ctx context.Context, mgr ctrl.Manager, o options) (*tenant.Policies, error) {
	if !o.networkPolicies {
		return nil, nil
	}
	out := &tenant.Policies{}
	if o.metricsNamespaces != "" {
		var err error
		if out.Scrapers, err = metav1.ParseToLabelSelector(o.metricsNamespaces); err != nil {
			return nil, fmt.Errorf("--metrics-namespaces: %w", err)
		}
	}
	given, auto, err := parseNetworks(o.managementCIDRs)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--management-cidrs: %w", err)
	case auto && o.namespace == "":
		found, err := tenant.ManagementNetworks(ctx, mgr.GetCache(), mgr.GetAPIReader())
		if err != nil {
			return nil, err
		}
		out.Nodes = true
		out.Closed = func(ctx context.Context) ([]netip.Prefix, error) {
			closed, err := found(ctx)
			return sorted(slices.Concat(closed, given)), err
		}
		return out, nil
	case auto:
		klog.InfoS("A manager of one namespace may not see Nodes, so auto among --management-cidrs is nothing")
	}
	out.Closed = func(context.Context) ([]netip.Prefix, error) { return given, nil }
	return out, nil
}

// autoNetworks among --management-cidrs stands for what can be found out.
const autoNetworks = "auto"

// parseNetworks reads CIDRs and single addresses, and sorts them.
func parseNetworks(texts []string) (given []netip.Prefix, auto bool, err error) {
	for _, text := range texts {
		if text == autoNetworks {
			auto = true
			continue
		}
		p, err := netip.ParsePrefix(text)
		if a, alone := netip.ParseAddr(text); alone == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("%q is neither auto nor a network such as 10.244.0.0/16 nor an address", text)
		}
		given = append(given, p.Masked())
	}
	return sorted(given), auto, nil
}

func sorted(networks []netip.Prefix) []netip.Prefix {
	slices.SortFunc(networks, netip.Prefix.Compare)
	return slices.Compact(networks)
}
