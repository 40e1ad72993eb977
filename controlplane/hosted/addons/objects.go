// SPDX-License-Identifier: Apache-2.0

package addons

import (
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Objects is the complete set of objects of the enabled addons, and the address
// behind the Service default/kubernetes. Only DefaultCorefile is not in it.
func Objects(in Input) ([]client.Object, error) { return nil, nil }

// DefaultCorefile is the ConfigMap with CoreDNS's configuration, or nil if CoreDNS
// is not enabled. It must be created when it doesn't exist, and never be changed:
// from then on it is the user's.
func DefaultCorefile(in Input) *corev1.ConfigMap { return nil }

// Kinds has an empty list for each kind of object that Objects may hold, for pruning.
func Kinds() []client.ObjectList { return nil }
