// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	"path/filepath"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/golden"
)

func input(change func(*kamajiv1alpha1.TenantControlPlaneSpec)) Input {
	in := Input{
		Tenant:   &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Name: "customer1", Namespace: "tenants"}},
		Endpoint: endpoint.Endpoint{Worker: endpoint.Server{Host: "customer1.k8s.example.com", Port: 6443}},
		CACert:   []byte("certificate"),
	}
	in.Tenant.Spec.Kubernetes.Version = "v1.36.3"
	if change != nil {
		change(&in.Tenant.Spec)
	}
	return in
}

func value(text string) *apiextensionsv1.JSON { return &apiextensionsv1.JSON{Raw: []byte(text)} }

func TestObjects(t *testing.T) {
	dualStack := func(spec *kamajiv1alpha1.TenantControlPlaneSpec) {
		spec.Kubernetes.Version = "1.30.5"
		spec.Kubernetes.Kubelet.CGroupFS = "cgroupfs"
		spec.NetworkProfile.ServiceCIDRs = []string{"10.100.0.0/16", "fd00:1::/112"}
		spec.NetworkProfile.PodCIDRs = []string{"10.101.0.0/16", "fd00:2::/64"}
		spec.NetworkProfile.ClusterDomain = "tenant.example.com"
	}
	for name, in := range map[string]Input{"default": input(nil), "rarer": input(dualStack)} {
		t.Run(name, func(t *testing.T) {
			objects, err := Objects(in)
			if err != nil {
				t.Fatal(err)
			}
			golden.Objects(t, filepath.Join("testdata", name+".yaml"), objects)
		})
	}
}

func TestKubeletPatches(t *testing.T) {
	cases := []struct {
		name    string
		patches []kamajiv1alpha1.JSONPatch
		// has and hasNot are lines of the document.
		has, hasNot []string
		err         string
	}{
		{"none", nil, []string{"cgroupDriver: systemd"}, []string{"syncFrequency", "null"}, ""},
		{"add", []kamajiv1alpha1.JSONPatch{{Op: "add", Path: "/failSwapOn", Value: value("false")}}, []string{"failSwapOn: false"}, []string{"syncFrequency"}, ""},
		{"add in a new object", []kamajiv1alpha1.JSONPatch{{Op: "add", Path: "/evictionHard/nodefs.available", Value: value(`"0%"`)}}, []string{"nodefs.available: 0%"}, nil, ""},
		{"replace what nobody has set", []kamajiv1alpha1.JSONPatch{{Op: "replace", Path: "/syncFrequency", Value: value(`"30s"`)}}, []string{"syncFrequency: 30s"}, []string{"fileCheckFrequency"}, ""},
		{"an empty object that means something", []kamajiv1alpha1.JSONPatch{{Op: "add", Path: "/evictionHard", Value: value(`{}`)}}, []string{"evictionHard: {}"}, nil, ""},
		{"remove", []kamajiv1alpha1.JSONPatch{{Op: "remove", Path: "/staticPodPath"}}, nil, []string{"staticPodPath"}, ""},
		{"remove what isn't there", []kamajiv1alpha1.JSONPatch{{Op: "remove", Path: "/nothing"}}, nil, nil, "configurationJSONPatches"},
		{"failing test", []kamajiv1alpha1.JSONPatch{{Op: "test", Path: "/cgroupDriver", Value: value(`"x"`)}}, nil, nil, "configurationJSONPatches"},
		{"unknown field", []kamajiv1alpha1.JSONPatch{{Op: "add", Path: "/failSwapOff", Value: value("true")}}, nil, nil, "no kubelet can read"},
		{"wrong type", []kamajiv1alpha1.JSONPatch{{Op: "add", Path: "/failSwapOn", Value: value(`"maybe"`)}}, nil, nil, "no kubelet can read"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, err := KubeletConfiguration(input(func(spec *kamajiv1alpha1.TenantControlPlaneSpec) {
				spec.Kubernetes.Kubelet.ConfigurationJSONPatches = tc.patches
			}))
			switch {
			case tc.err == "" && err != nil:
				t.Fatal(err)
			case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
				t.Fatalf("error %v, want one with %q", err, tc.err)
			}
			for _, line := range tc.has {
				if !strings.Contains(got, line) {
					t.Errorf("no %q in\n%s", line, got)
				}
			}
			for _, line := range tc.hasNot {
				if strings.Contains(got, line) {
					t.Errorf("%q in\n%s", line, got)
				}
			}
		})
	}
}

func TestMissingAuthorityIsAnError(t *testing.T) {
	in := input(nil)
	in.CACert = nil
	if _, err := Objects(in); err == nil {
		t.Error("a cluster-info without a certificate was made")
	}
}
