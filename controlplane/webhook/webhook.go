// SPDX-License-Identifier: Apache-2.0

// Package webhook completes and checks TenantControlPlanes where the CRD's
// schema and CEL rules can't: values that depend on other objects, on the
// installation or on what this release supports.
//
// The engine does not rely on it. Without webhooks the same mistakes show up as
// conditions, and the same defaults apply at run time.
package webhook

import (
	ctrl "sigs.k8s.io/controller-runtime"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// Options are the settings of an installation.
type Options struct {
	// DefaultDataStore is given to tenants that name none; empty for no default.
	DefaultDataStore string
}

// Setup registers the webhooks with the manager's webhook server.
func Setup(mgr ctrl.Manager, options Options) error {
	return ctrl.NewWebhookManagedBy(mgr, &kamajiv1alpha1.TenantControlPlane{}).
		WithDefaulter(&defaulter{dataStore: options.DefaultDataStore}).
		WithValidator(&validator{reader: mgr.GetClient(), writer: mgr.GetClient(), mapper: mgr.GetRESTMapper()}).
		Complete()
}
