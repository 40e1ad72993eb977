// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"strings"
)

// removedFlags are command-line flags with the minor that doesn't know them any
// more and refuses to start with them, by the component's name in spec.controlPlane.deployment.extraArgs.
// test/kubeadm holds it against the flags that the sources of each minor declare.
var removedFlags = map[string]map[string]int{
	"apiServer": {
		"cloud-config":                      33,
		"cloud-provider":                    33,
		"cloud-provider-gce-l7lb-src-cidrs": 31,
		"cloud-provider-gce-lb-src-cidrs":   31,
	},
	"controllerManager": {
		"cloud-provider-gce-l7lb-src-cidrs":         31,
		"cloud-provider-gce-lb-src-cidrs":           31,
		"horizontal-pod-autoscaler-downscale-delay": 31,
		"horizontal-pod-autoscaler-upscale-delay":   31,
		"volume-host-allow-local-loopback":          31,
		"volume-host-cidr-denylist":                 31,
	},
}

// flagProblem says that the minor refuses an argument, or is empty.
func flagProblem(component, arg string, minor int) string {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	// As flags of Kubernetes do, underscores are taken for hyphens.
	name = strings.ReplaceAll(name, "_", "-")
	since, known := removedFlags[component][name]
	if !known || minor < since {
		return ""
	}
	return fmt.Sprintf("spec.controlPlane.deployment.extraArgs.%s: flag --%s does not exist since 1.%d: remove it", component, name, since)
}
