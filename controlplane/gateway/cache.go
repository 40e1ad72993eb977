// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// CacheByObject limits the manager's cache, for kinds that only data planes use, to the namespace in which they run. The manager needs it: it
// has no right to see these kinds elsewhere.
func CacheByObject(namespace string) map[client.Object]cache.ByObject {
	here := cache.ByObject{Namespaces: map[string]cache.Config{namespace: {}}}
	return map[client.Object]cache.ByObject{&appsv1.DaemonSet{}: here}
}
