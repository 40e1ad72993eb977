// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	appsv1 "k8s.io/api/apps/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// CacheByObject limits the manager's cache, for kinds that only gateways use, to what they need and may read: data planes in the
// manager's namespace, and EndpointSlices of tenants' Services, whose labels EndpointSlices inherit.
func CacheByObject(namespace string) map[client.Object]cache.ByObject {
	here := cache.ByObject{Namespaces: map[string]cache.Config{namespace: {}}}
	tenants, err := labels.NewRequirement(kamajiv1alpha1.NameLabel, selection.Exists, nil)
	if err != nil {
		// The label's name is a constant that is a valid one.
		panic(err)
	}
	return map[client.Object]cache.ByObject{
		&appsv1.DaemonSet{}:             here,
		&policyv1.PodDisruptionBudget{}: here,
		&discoveryv1.EndpointSlice{}:    {Label: labels.NewSelector().Add(*tenants)},
	}
}
