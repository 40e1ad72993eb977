// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"sigs.k8s.io/cluster-api/util/contract"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	infrav1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
)

// contractLabel is where Cluster API looks for the versions that speak its contract v1beta2.
const contractLabel = "cluster.x-k8s.io/v1beta2"

func TestCustomResourceDefinitions(t *testing.T) {
	scheme := runtime.NewScheme()
	utilruntime.Must(kamajiv1alpha1.AddToScheme(scheme))
	utilruntime.Must(controlplanev1alpha2.AddToScheme(scheme))
	utilruntime.Must(infrav1alpha1.AddToScheme(scheme))
	for _, p := range providers {
		objects, err := p.components()
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, object := range objects {
			if object.GetKind() != "CustomResourceDefinition" {
				continue
			}
			var crd apiextensionsv1.CustomResourceDefinition
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &crd); err != nil {
				t.Fatal(err)
			}
			seen[crd.Spec.Names.Kind] = true
			t.Run(crd.Name, func(t *testing.T) {
				checkCRD(t, scheme, crd)
				template, inContract := p.kinds[crd.Spec.Names.Kind]
				if inContract {
					checkContract(t, p, crd, template)
				}
			})
		}
		for kind := range p.kinds {
			if !seen[kind] {
				t.Errorf("%s has no CRD for %s", p.file, kind)
			}
		}
	}
}

// checkCRD holds for every kind: the name that tools compute from group and kind, and types that clients can list.
func checkCRD(t *testing.T, scheme *runtime.Scheme, crd apiextensionsv1.CustomResourceDefinition) {
	t.Helper()
	if want := contract.CalculateCRDName(crd.Spec.Group, crd.Spec.Names.Kind); crd.Name != want {
		t.Errorf("name is %s, want %s: clusterctl and core compute it", crd.Name, want)
	}
	for _, version := range crd.Spec.Versions {
		for _, kind := range []string{crd.Spec.Names.Kind, crd.Spec.Names.ListKind} {
			gvk := schema.GroupVersionKind{Group: crd.Spec.Group, Version: version.Name, Kind: kind}
			if !scheme.Recognizes(gvk) {
				t.Errorf("%s is not in the scheme", gvk)
			}
		}
	}
	for _, served := range strings.Split(crd.Labels[contractLabel], "_") {
		if served != "" && !slices.ContainsFunc(crd.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Name == served && v.Served }) {
			t.Errorf("label %s names %s, which is not served", contractLabel, served)
		}
	}
}

// checkContract holds for the kinds that Cluster API core works with.
func checkContract(t *testing.T, p provider, crd apiextensionsv1.CustomResourceDefinition, template bool) {
	t.Helper()
	if got := crd.Labels[contractLabel]; got != p.contract {
		t.Errorf("label %s is %q, want %q", contractLabel, got, p.contract)
	}
	if crd.Spec.Group != p.group {
		t.Errorf("group is %s, want %s", crd.Spec.Group, p.group)
	}
	if crd.Spec.Scope != apiextensionsv1.NamespaceScoped {
		t.Errorf("scope is %s; the contract's kinds are namespaced", crd.Spec.Scope)
	}
	if !slices.Contains(crd.Spec.Names.Categories, "cluster-api") {
		t.Error("not in category cluster-api")
	}
	for _, version := range crd.Spec.Versions {
		if !template && (version.Subresources == nil || version.Subresources.Status == nil) {
			t.Errorf("%s has no status subresource", version.Name)
		}
		properties := version.Schema.OpenAPIV3Schema.Properties["status"].Properties
		for _, dead := range []string{"failureReason", "failureMessage"} {
			if _, found := properties[dead]; found {
				t.Errorf("%s has status.%s, which the contract has given up", version.Name, dead)
			}
		}
	}
}
