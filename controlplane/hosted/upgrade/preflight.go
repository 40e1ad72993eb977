// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"
)

// kubeletSkew is how many minors a kubelet may be older than the API server.
// Source: the version skew policy of Kubernetes, since 1.28.
const kubeletSkew = 3

// removedPlugins are admission plugins with the minor that doesn't know them any
// more. Source: pkg/kubeapiserver/options/plugins.go in k8s.io/kubernetes v1.31.0 to v1.36.3.
var removedPlugins = map[string]int{"PersistentVolumeLabel": 31, "SecurityContextDeny": 30}

// Node is a node of the tenant.
type Node struct {
	// Name of the Node.
	Name string
	// Kubelet is the version that it reports.
	Kubelet string
}

// Preflight is what is looked at before a version is rolled out.
type Preflight struct {
	// To is the version.
	To string
	// Plugins are the admission plugins that are switched on or off by name.
	Plugins []string
	// Args are the user's arguments in the form --name=value, by component.
	Args map[string][]string
	// Nodes of the tenant.
	Nodes []Node
	// APIs that clients of the tenant use and that won't be there for ever.
	APIs []API
}

// Problems says what would stop the control plane of the version from starting, or
// what would stop working with it; each with the field, node or API, and the cure.
func (p Preflight) Problems() []string {
	minor := Minor(p.To)
	var out []string
	for _, plugin := range p.Plugins {
		if since, known := removedPlugins[plugin]; known && minor >= since {
			out = append(out, fmt.Sprintf("spec.kubernetes.admissionControllers: %s does not exist since 1.%d: remove it", plugin, since))
		}
	}
	for _, component := range slices.Sorted(maps.Keys(p.Args)) {
		for _, arg := range p.Args[component] {
			if problem := flagProblem(component, arg, minor); problem != "" {
				out = append(out, problem)
			}
			out = append(out, gateProblems(component, arg, minor)...)
		}
	}
	return append(append(out, p.kubelets()...), p.apis()...)
}

func gateProblems(component, arg string, minor int) []string {
	name, value, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	if name != "feature-gates" {
		return nil
	}
	var out []string
	for _, setting := range strings.Split(value, ",") {
		feature, wanted, _ := strings.Cut(setting, "=")
		known := gates[strings.TrimSpace(feature)]
		field := fmt.Sprintf("spec.controlPlane.deployment.extraArgs.%s: feature gate %s", component, strings.TrimSpace(feature))
		switch {
		case known.removed != 0 && minor >= known.removed:
			out = append(out, fmt.Sprintf("%s does not exist since 1.%d: remove it", field, known.removed))
		case known.locked != 0 && minor >= known.locked && strings.EqualFold(strings.TrimSpace(wanted), fmt.Sprint(!known.fixed)):
			out = append(out, fmt.Sprintf("%s can only be %t since 1.%d: remove it", field, known.fixed, known.locked))
		}
	}
	return out
}

// kubelets names the nodes that the version would leave behind, three at most.
func (p Preflight) kubelets() []string {
	target, err := version.ParseSemantic(p.To)
	if err != nil {
		return nil
	}
	var behind []string
	for _, node := range p.Nodes {
		kubelet, err := version.ParseSemantic(node.Kubelet)
		if err == nil && kubelet.Minor()+kubeletSkew < target.Minor() {
			behind = append(behind, node.Name+" ("+node.Kubelet+")")
		}
	}
	if len(behind) == 0 {
		return nil
	}
	more := ""
	if extra := len(behind) - 3; extra > 0 {
		behind, more = behind[:3], fmt.Sprintf(" and %d more", extra)
	}
	return []string{fmt.Sprintf("kubelets more than %d minors older than %s: upgrade or remove the nodes %s%s",
		kubeletSkew, p.To, strings.Join(behind, ", "), more)}
}
