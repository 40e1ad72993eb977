// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// Gateways find the activator by a Service whose label the manager's cache selects, whose pods have the port, and whose policy lets them in.
func TestActivatorIsFound(t *testing.T) {
	objects, err := providers[0].components()
	if err != nil {
		t.Fatal(err)
	}
	var service corev1.Service
	var deployment appsv1.Deployment
	var policy networkingv1.NetworkPolicy
	for _, o := range objects {
		var into any
		switch o.GetKind() + "/" + o.GetName() {
		case "Service/kamaji-activator":
			into = &service
		case "Deployment/kamaji-controller-manager":
			into = &deployment
		case "NetworkPolicy/kamaji-controller-manager":
			into = &policy
		default:
			continue
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, into); err != nil {
			t.Fatal(err)
		}
	}
	if service.Labels[kamajiv1alpha1.ProjectLabel] != kamajiv1alpha1.ProjectLabelValue || len(service.Spec.Ports) != 1 || service.Spec.Ports[0].Name != "activator" {
		t.Fatalf("the Service is %+v", service)
	}
	pod := deployment.Spec.Template
	if !labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) {
		t.Errorf("the Service selects %v, pods have %v", service.Spec.Selector, pod.Labels)
	}
	target := service.Spec.Ports[0].TargetPort
	if !slices.ContainsFunc(pod.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == target.String() && p.ContainerPort == 18001 }) {
		t.Errorf("the manager's ports are %+v", pod.Spec.Containers[0].Ports)
	}
	if !slices.ContainsFunc(policy.Spec.Ingress[0].Ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port.String() == target.String() }) {
		t.Errorf("the policy lets in %+v", policy.Spec.Ingress)
	}
}
