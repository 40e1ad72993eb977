// SPDX-License-Identifier: Apache-2.0

package main

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The Secrets, ConfigMaps and pods of a whole management cluster don't fit into a small manager.
func TestCachesHoldOnlyOurs(t *testing.T) {
	options := caches(options{podNamespace: "kamaji-system"})
	theirs := labels.Set{"app": "something"}
	for _, kind := range []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}, &corev1.Service{}, &corev1.Pod{}, &networkingv1.Ingress{}, &discoveryv1.EndpointSlice{}} {
		found := false
		for object, by := range options.ByObject {
			if reflect.TypeOf(object) == reflect.TypeOf(kind) {
				found = true
				everywhere := by.Label
				if everywhere == nil {
					everywhere = by.Namespaces[cache.AllNamespaces].LabelSelector
				}
				if everywhere == nil || everywhere.Matches(theirs) {
					t.Errorf("%T: objects of others are cached", kind)
				}
			}
		}
		if !found {
			t.Errorf("%T: all objects are cached", kind)
		}
	}
}
