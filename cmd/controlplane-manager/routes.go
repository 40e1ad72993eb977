// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/activator"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/xds/server"
)

// serveRoutes has every replica tell gateways where tenants are, and answer for those that sleep.
func serveRoutes(ctx context.Context, mgr ctrl.Manager, o options, tlsOptions []func(*tls.Config)) error {
	routes := server.Options{Address: o.xdsBind, TLS: server.TLSFilesIn(o.xdsDir)}
	if o.activatorBind != "" {
		routes.Activator = types.NamespacedName{Namespace: o.podNamespace, Name: o.activatorService}
		if err := activator.SetupWithManager(ctx, mgr, activator.Options{Address: o.activatorBind, TLS: tlsOptions}); err != nil {
			return fmt.Errorf("adding the activator: %w", err)
		}
	}
	if o.xdsBind == "" {
		return nil
	}
	if _, err := server.SetupWithManager(ctx, mgr, routes); err != nil {
		return fmt.Errorf("adding the route server: %w", err)
	}
	return nil
}
