// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/upgrade"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// TestArgumentsAreKnown: each flag that the engine gives to a component, in any of its golden files, is one that each
// minor declares.
func TestArgumentsAreKnown(t *testing.T) {
	used := arguments(t)
	if len(used) < 40 {
		t.Fatalf("the engine's golden files have %d flags", len(used))
	}
	for minor := upgrade.MinMinor; minor <= upgrade.MaxMinor; minor++ {
		record, err := os.ReadFile(filepath.Join("testdata", "flags", fmt.Sprintf("1.%d.txt", minor)))
		if err != nil {
			t.Fatal(err)
		}
		for flag, container := range used {
			if !strings.Contains(string(record), " "+flag+"\n") {
				t.Errorf("%s of 1.%d has no flag --%s", container, minor, flag)
			}
		}
	}
}

// arguments are the flags of the Kubernetes components in the engine's golden files, with one component of each.
func arguments(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testenv.Root(), "controlplane", "hosted", "desired", "testdata", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for document := range strings.SplitSeq(string(data), "---\n") {
			deployment := &appsv1.Deployment{}
			if err := yaml.Unmarshal([]byte(document), deployment); err != nil || deployment.Kind != "Deployment" {
				continue
			}
			for _, container := range deployment.Spec.Template.Spec.Containers {
				if !strings.HasPrefix(container.Name, "kube-") {
					continue
				}
				for _, arg := range append(container.Command, container.Args...) {
					if name, isFlag := strings.CutPrefix(arg, "--"); isFlag {
						name, _, _ = strings.Cut(name, "=")
						used[name] = container.Name
					}
				}
			}
		}
	}
	return used
}
