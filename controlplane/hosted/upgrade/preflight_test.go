// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"strings"
	"testing"
)

func TestPreflight(t *testing.T) {
	gate := func(settings ...string) map[string][]string {
		return map[string][]string{"apiServer": {"--v=2", "--feature-gates=" + strings.Join(settings, ",")}}
	}
	for name, tc := range map[string]struct {
		preflight Preflight
		// want is part of each problem, in order.
		want []string
	}{
		"nothing to say": {Preflight{To: "v1.36.3", Plugins: []string{"NodeRestriction"}, Args: gate("AnonymousAuthConfigurableEndpoints=true"),
			Nodes: []Node{{"a", "v1.33.13"}, {"b", "v1.36.1"}}}, nil},
		"old kubelets": {Preflight{To: "v1.36.3", Nodes: []Node{{"a", "v1.32.9"}, {"b", "v1.33.0"}, {"c", "v1.31.0"}}},
			[]string{"upgrade or remove the nodes a (v1.32.9), c (v1.31.0)"}},
		"many old kubelets":     {Preflight{To: "v1.36.3", Nodes: []Node{{"a", "v1.30.0"}, {"b", "v1.30.0"}, {"c", "v1.30.0"}, {"d", "v1.30.0"}, {"e", "v1.30.0"}}}, []string{"c (v1.30.0) and 2 more"}},
		"removed plugin":        {Preflight{To: "v1.31.0", Plugins: []string{"PersistentVolumeLabel"}}, []string{"PersistentVolumeLabel does not exist since 1.31"}},
		"not yet removed":       {Preflight{To: "v1.30.5", Plugins: []string{"PersistentVolumeLabel"}}, nil},
		"removed gate":          {Preflight{To: "v1.35.1", Args: gate("ComponentSLIs=true")}, []string{"apiServer: feature gate ComponentSLIs does not exist since 1.35"}},
		"gate of the minor ago": {Preflight{To: "v1.34.1", Args: gate("ComponentSLIs=true")}, nil},
		"locked gate":           {Preflight{To: "v1.36.0", Args: gate("GitRepoVolumeDriver=true", "ListFromCacheSnapshot=false")}, []string{"GitRepoVolumeDriver can only be false since 1.36"}},
		"removed flags": {Preflight{To: "v1.33.0", Args: map[string][]string{"apiServer": {"--cloud_provider=external", "--v=2"}, "controllerManager": {"--cloud-provider=external", "--volume-host-cidr-denylist=10.0.0.0/8"}}},
			[]string{"apiServer: flag --cloud-provider does not exist since 1.33", "controllerManager: flag --volume-host-cidr-denylist does not exist since 1.31"}},
		"flag of the minor ago": {Preflight{To: "v1.32.0", Args: map[string][]string{"apiServer": {"--cloud-provider=external"}}}, nil},
		"APIs in use": {Preflight{To: "v1.32.0", APIs: []API{{"flowcontrol.apiserver.k8s.io", "v1beta3", "flowschemas", "1.32"}, {"", "v1", "endpoints", ""}, {"a", "v1", "b", "1.33"}, {"c", "v1", "d", "1.31"}, {"c", "v1", "d", "1.31"}}},
			[]string{"v1.32.0 no longer has: c/v1 d, flowcontrol.apiserver.k8s.io/v1beta3 flowschemas; have them"}},
		"locked to what is set": {Preflight{To: "v1.36.0", Args: gate("GitRepoVolumeDriver=false")}, nil},
		"two components": {Preflight{To: "v1.36.0", Args: map[string][]string{"scheduler": {"--feature-gates=MemoryManager=true"}, "controllerManager": {"--feature-gates=MemoryManager=true"}}},
			[]string{"extraArgs.controllerManager: feature gate MemoryManager", "extraArgs.scheduler: feature gate MemoryManager"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := tc.preflight.Problems()
			if len(got) != len(tc.want) {
				t.Fatalf("problems: %q", got)
			}
			for i, want := range tc.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("%q does not say %q", got[i], want)
				}
			}
		})
	}
}
