// SPDX-License-Identifier: Apache-2.0

package kubeadm

import "sigs.k8s.io/controller-runtime/pkg/client"

// Objects is the complete set of documents and permissions in the tenant. The error
// is a JSON patch of the user that doesn't apply, or a CA that isn't PEM.
func Objects(in Input) ([]client.Object, error) { return nil, nil }

// ClusterConfiguration is the kubeadm document of the tenant in YAML, in the API
// version that kubeadm of the tenant's version writes itself.
func ClusterConfiguration(in Input) (string, error) { return "", nil }
