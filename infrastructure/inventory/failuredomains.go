// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"slices"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
)

// MaxFailureDomains is how many a Cluster may list.
const MaxFailureDomains = 100

// FailureDomains are the distinct failure domains of hosts, sorted, at most MaxFailureDomains. Hosts that are being
// deleted don't count; busy ones do, since they come back.
func FailureDomains(hosts []infrav1.RackHost) []string {
	var names []string
	for i := range hosts {
		if name := hosts[i].Spec.FailureDomain; name != "" && hosts[i].DeletionTimestamp.IsZero() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(len(names), MaxFailureDomains)]
}
