// SPDX-License-Identifier: Apache-2.0

package desired_test

import (
	"path/filepath"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/golden"
)

func TestPodMonitor(t *testing.T) {
	golden.Objects(t, filepath.Join("testdata", "podmonitor.yaml"), []client.Object{desired.PodMonitor(everything())})
	if desired.PodMonitor(throughGateway()) != nil {
		t.Error("there is a PodMonitor that nobody has asked for")
	}
}

// Prometheus finds each port by its name in the pods, and the NetworkPolicy lets it in.
func TestPodMonitorNamesPortsOfPods(t *testing.T) {
	in := throughKine()
	in.Tenant.Spec.ControlPlane.Monitoring = &kamajiv1alpha1.MonitoringSpec{}
	endpoints, _, err := unstructured.NestedSlice(desired.PodMonitor(in).Object, "spec", "podMetricsEndpoints")
	if err != nil || len(endpoints) != 5 {
		t.Fatalf("%d endpoints, %v", len(endpoints), err)
	}
	pod := desired.Deployment(in).Spec.Template.Spec
	numbers := map[string]int32{}
	for _, c := range slices.Concat(pod.Containers, pod.InitContainers) {
		for _, p := range c.Ports {
			numbers[p.Name] = p.ContainerPort
		}
	}
	policy := policyOf(t, in)
	for _, e := range endpoints {
		port, _ := e.(map[string]any)["port"].(string)
		if numbers[port] == 0 {
			t.Errorf("no container has port %s", port)
		}
		if !allows(policy, reach{peer: "10.244.0.9", port: numbers[port], namespace: "monitoring"}) {
			t.Errorf("port %s is closed to monitoring", port)
		}
		if open := allows(policy, reach{peer: "10.244.0.9", port: numbers[port], namespace: "other"}); open != (port == desired.APIServerPortName) {
			t.Errorf("port %s is open to everybody: %t", port, open)
		}
	}
}
