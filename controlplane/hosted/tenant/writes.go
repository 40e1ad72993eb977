// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// writes knows the resource version that each tenant had when this controller wrote its status last. A pass may follow
// that write before the cache has it. It would compare with the status of before: tell of a change that has been told,
// and write nothing when its verdict is the same as two passes ago, so that the one between them would stay, since
// nothing looks at a tenant because of this controller's own writes. Losing it costs nothing.
type writes struct {
	mu       sync.Mutex
	versions map[types.NamespacedName]string
}

// note takes down the resource version of a status that was written, or found to need no write.
func (w *writes) note(tenant *kamajiv1alpha1.TenantControlPlane) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.versions == nil {
		w.versions = map[types.NamespacedName]string{}
	}
	w.versions[client.ObjectKeyFromObject(tenant)] = tenant.ResourceVersion
}

// follow tells whether a tenant was read before this controller wrote its status last. Resource versions can be
// compared within a resource (Kubernetes API concepts, "Resource versions", since 1.35); where one cannot, a read
// counts as current.
func (w *writes) follow(read *kamajiv1alpha1.TenantControlPlane) bool {
	w.mu.Lock()
	version := w.versions[client.ObjectKeyFromObject(read)]
	w.mu.Unlock()
	order, err := resourceversion.CompareResourceVersion(read.ResourceVersion, version)
	return err == nil && order < 0
}

// forget drops what is known of a tenant that is gone.
func (w *writes) forget(tenant types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.versions, tenant)
}
