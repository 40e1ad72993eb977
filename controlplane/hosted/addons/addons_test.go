// SPDX-License-Identifier: Apache-2.0

package addons_test

import (
	"path/filepath"
	"reflect"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/addons"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/golden"
)

// bare has a gateway and no addon.
func bare() addons.Input {
	named := endpoint.Server{Host: "customer1.k8s.example.com", Port: 6443}
	in := addons.Input{
		Tenant: &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Name: "customer1", Namespace: "tenants"}},
		Endpoint: endpoint.Endpoint{
			Worker: named, Tunnel: named, Published: named, InCluster: endpoint.Server{Host: "10.0.0.100", Port: 21034}, Gateway: true,
		},
	}
	in.Tenant.Spec.Kubernetes.Version = "v1.36.3"
	return in
}

func all() addons.Input {
	in := bare()
	in.Tenant.Spec.Addons = kamajiv1alpha1.AddonsSpec{
		CoreDNS: &kamajiv1alpha1.AddonSpec{}, KubeProxy: &kamajiv1alpha1.AddonSpec{}, Konnectivity: &kamajiv1alpha1.KonnectivitySpec{},
	}
	return in
}

// rarer has no gateway, IPv6 addresses, and settings that few people use.
func rarer() addons.Input {
	in := all()
	ip := endpoint.Server{Host: "fd00::5", Port: 6443}
	in.Endpoint = endpoint.Endpoint{Worker: ip, Tunnel: endpoint.Server{Host: ip.Host, Port: 9132}, Published: ip, InCluster: ip}
	spec := &in.Tenant.Spec
	spec.Kubernetes.Version = "1.31.0"
	spec.NetworkProfile.ServiceCIDRs = []string{"fd00:1::/112", "10.100.0.0/16"}
	spec.NetworkProfile.PodCIDRs = []string{"fd00:2::/64", "10.101.0.0/16"}
	spec.NetworkProfile.ClusterDomain = "tenant.example.com"
	spec.Addons.CoreDNS = &kamajiv1alpha1.AddonSpec{ImageTag: "v1.99.0"}
	spec.Addons.KubeProxy = &kamajiv1alpha1.AddonSpec{ImageRepository: "mirror.example.com/k8s/"}
	spec.Addons.Konnectivity.KonnectivityServerSpec.Port = 9132
	spec.Addons.Konnectivity.KonnectivityAgentSpec = kamajiv1alpha1.KonnectivityAgentSpec{
		Image: "mirror.example.com/proxy-agent", Version: "v0.36.9", Mode: kamajiv1alpha1.KonnectivityAgentModeDeployment, Replicas: ptr.To[int32](3),
		Tolerations: []corev1.Toleration{{Key: "CriticalAddonsOnly", Operator: corev1.TolerationOpExists}},
		ExtraArgs:   []string{"--keepalive-time=1m", "--v=2"},
		Resources:   &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}},
	}
	return in
}

func TestObjects(t *testing.T) {
	for name, in := range map[string]addons.Input{"bare": bare(), "all": all(), "rarer": rarer()} {
		t.Run(name, func(t *testing.T) {
			objects, err := addons.Objects(in)
			if err != nil {
				t.Fatal(err)
			}
			if corefile := addons.DefaultCorefile(in); corefile != nil {
				objects = append(objects, corefile)
			}
			golden.Objects(t, filepath.Join("testdata", name+".yaml"), objects)
		})
	}
}

// TestKindsCoverObjects: a kind that is missing among Kinds is never pruned.
func TestKindsCoverObjects(t *testing.T) {
	kinds := map[string]bool{}
	for _, list := range addons.Kinds() {
		items, err := meta.GetItemsPtr(list)
		if err != nil {
			t.Fatal(err)
		}
		kinds[typeName(items)] = true
	}
	for _, in := range []addons.Input{all(), rarer()} {
		objects, err := addons.Objects(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range objects {
			if !kinds[typeName(object)] {
				t.Errorf("no list of %T among Kinds", object)
			}
		}
	}
}

// typeName is the name of the struct behind a pointer to it, or to a slice of it.
func typeName(v any) string {
	t := reflect.TypeOf(v).Elem()
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t.String()
}

// TestObjectsShareNothing: whoever applies an object adds labels to it, which must
// not show up in a selector or in another object.
func TestObjectsShareNothing(t *testing.T) {
	objects, err := addons.Objects(all())
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if labels := object.GetLabels(); labels != nil {
			labels["mark"] = object.GetName()
		}
	}
	for _, object := range objects {
		var selector *metav1.LabelSelector
		switch o := object.(type) {
		case *appsv1.Deployment:
			selector = o.Spec.Selector
		case *appsv1.DaemonSet:
			selector = o.Spec.Selector
		default:
			continue
		}
		if _, marked := selector.MatchLabels["mark"]; marked {
			t.Errorf("%T %s: the selector is the map of the labels", object, object.GetName())
		}
	}
}
