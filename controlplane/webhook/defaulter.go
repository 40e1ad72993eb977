// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/util/uuid"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// +kubebuilder:webhook:path=/mutate-kamaji-clastix-io-v1alpha1-tenantcontrolplane,mutating=true,failurePolicy=fail,sideEffects=None,groups=kamaji.clastix.io,resources=tenantcontrolplanes,verbs=create,versions=v1alpha1,name=mutate.tenantcontrolplane.kamaji.clastix.io,admissionReviewVersions=v1

type defaulter struct{ dataStore string }

// Default names the datastore, and the tenant's schema and user there. The
// latter are random rather than made of namespace and name: an object that is
// deleted and created again must not find the old one's data. They are put in
// the spec, so that they survive a restore into another cluster, where the UID
// that the engine would use otherwise is another one.
func (d *defaulter) Default(_ context.Context, tenant *kamajiv1alpha1.TenantControlPlane) error {
	spec := &tenant.Spec
	if spec.DataStore == "" && spec.DataStoreSelector == nil {
		spec.DataStore = d.dataStore
	}
	user := spec.DataStoreSchema
	if spec.DataStoreSchema == "" {
		spec.DataStoreSchema = string(uuid.NewUUID())
		// MySQL takes 32 characters, which a UUID has without its dashes.
		user = strings.ReplaceAll(spec.DataStoreSchema, "-", "")
	}
	if spec.DataStoreUsername == "" {
		spec.DataStoreUsername = user
	}
	return nil
}
