// SPDX-License-Identifier: Apache-2.0

package desired

import (
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// Workload is the complete set of objects of a tenant in the management cluster:
// Service, Secrets, ConfigMaps and Deployment. What is not in it gets deleted.
func Workload(in Input) []client.Object { return nil }

// Service is the Service in front of the control plane. It is part of Workload,
// and needed before: without a gateway its address is the tenant's.
func Service(tenant *kamajiv1alpha1.TenantControlPlane) *corev1.Service { return nil }
