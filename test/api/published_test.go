// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apimachineryyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// defaulted is what a manifest that says nothing about them gets, as in Kamaji.
type defaulted struct {
	DataStore, Registry, ClusterDomain, ServiceCIDR, PodCIDR, MaxSurge, ServiceAccount string
	Replicas, Port                                                                     int32
}

// published takes manifests that are in other people's repositories as they stand, twice.
func published(t *testing.T, c client.Client) {
	files, err := filepath.Glob(filepath.Join(testenv.Root(), "test", "manifests", "published", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests (%v)", err)
	}
	for _, namespace := range []string{"kamaji-system"} {
		if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); client.IgnoreAlreadyExists(err) != nil {
			t.Fatal(err)
		}
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			for _, o := range objects(t, path) {
				for range 2 {
					if err := c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(o.DeepCopy()), client.FieldOwner("kubectl")); err != nil {
						t.Fatalf("%s %s is refused: %v", o.GetKind(), o.GetName(), err)
					}
				}
				if o.GetKind() == "TenantControlPlane" {
					stored(t, c, client.ObjectKeyFromObject(o))
				}
				if err := c.Delete(t.Context(), o); err != nil && !apierrors.IsNotFound(err) {
					t.Fatal(err)
				}
			}
		})
	}
}

func stored(t *testing.T, c client.Client, key client.ObjectKey) {
	t.Helper()
	tenant := &kamajiv1alpha1.TenantControlPlane{}
	if err := c.Get(t.Context(), key, tenant); err != nil {
		t.Fatal(err)
	}
	spec := &tenant.Spec
	want := defaulted{
		DataStore: "default", Registry: "registry.k8s.io", ClusterDomain: "cluster.local", ServiceCIDR: "10.96.0.0/16", PodCIDR: "10.244.0.0/16",
		MaxSurge: "100%", ServiceAccount: "default", Replicas: 2, Port: 6443,
	}
	got := defaulted{
		DataStore: spec.DataStore, Registry: spec.ControlPlane.Deployment.RegistrySettings.Registry, ClusterDomain: spec.NetworkProfile.ClusterDomain,
		ServiceCIDR: strings.Join(tenant.ServiceCIDRs(), ","), PodCIDR: strings.Join(tenant.PodCIDRs(), ","),
		ServiceAccount: spec.ControlPlane.Deployment.ServiceAccountName, Replicas: tenant.Replicas(), Port: tenant.Port(),
	}
	if update := spec.ControlPlane.Deployment.Strategy.RollingUpdate; update != nil {
		got.MaxSurge = update.MaxSurge.String()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func objects(t *testing.T, path string) []*unstructured.Unstructured {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []*unstructured.Unstructured
	decoder := apimachineryyaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), len(data))
	for {
		o := &unstructured.Unstructured{}
		if err := decoder.Decode(&o.Object); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if len(o.Object) > 0 {
			out = append(out, o)
		}
	}
}
