// SPDX-License-Identifier: Apache-2.0

// Package kubeadm compares what the engine writes into a tenant with what kubeadm init of the same version writes.
//
// testdata has one record for each minor: everything that its kubeadm left in an empty cluster. UPDATE=kubeadm makes them
// anew, after building the kubeadm of each minor; without it the newest one, which comes with the assets, has to leave
// what its record says.
package kubeadm

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/addons"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/endpoint"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeadm"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/upgrade"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/apply"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/golden"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/binaries"
)

// authority stands for the certificate of the authority, which is another one each time.
const authority = "the certificate of the authority"

// versions by minor: those that the lab can build.
func versions() map[string]string {
	out := maps.Clone(binaries.Earlier)
	out[fmt.Sprintf("1.%d", upgrade.MaxMinor)] = binaries.KubernetesVersion
	return out
}

func TestDocuments(t *testing.T) {
	config, c := testenv.Start(t, clientgoscheme.Scheme)
	world := &cluster{config: config, client: c, own: map[string]bool{}}
	world.learn(t)
	newest := fmt.Sprintf("1.%d", upgrade.MaxMinor)
	used, able := map[int]bool{}, able(t)
	all := versions()
	for minor := upgrade.MinMinor; minor <= upgrade.MaxMinor; minor++ {
		minor := fmt.Sprintf("1.%d", minor)
		t.Run(minor, func(t *testing.T) {
			record := filepath.Join("testdata", minor+".yaml")
			if able && (minor == newest || os.Getenv("UPDATE") == "kubeadm") {
				initialise(t, config, c, program(t, minor, newest), all[minor])
				golden.Text(t, record, world.text(t, world.taken(t)))
			}
			have := map[string]map[string]any{}
			for _, object := range written(t, world, all[minor]) {
				have[name(object)] = object.Object
			}
			explain(t, minor, recorded(t, record), have, used)
		})
	}
	for i, d := range intended {
		if !used[i] {
			t.Errorf("there is no such difference any more: %s %s", d.object, d.path)
		}
	}
}

// written is what the engine writes into a tenant of the version.
func written(t *testing.T, world *cluster, version string) []*unstructured.Unstructured {
	t.Helper()
	tenant := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Name: "customer1", Namespace: "tenants"}}
	tenant.Spec.Kubernetes.Version = version
	tenant.Spec.NetworkProfile.ServiceCIDRs = []string{"10.0.0.0/24"}
	tenant.Spec.NetworkProfile.PodCIDRs = []string{"10.244.0.0/16"}
	tenant.Spec.Addons.CoreDNS = &kamajiv1alpha1.AddonSpec{}
	tenant.Spec.Addons.KubeProxy = &kamajiv1alpha1.AddonSpec{}
	to := endpoint.Endpoint{Worker: endpoint.Server{Host: "customer1.k8s.example.com", Port: 6443}, InCluster: endpoint.Server{Host: "192.0.2.10", Port: 6443}}
	objects, err := kubeadm.Objects(kubeadm.Input{Tenant: tenant, Endpoint: to, CACert: []byte(authority)})
	if err != nil {
		t.Fatal(err)
	}
	in := addons.Input{Tenant: tenant, Endpoint: to}
	extras, err := addons.Objects(in)
	if err != nil {
		t.Fatal(err)
	}
	objects = append(objects, addons.DefaultCorefile(in))
	objects = append(objects, slices.DeleteFunc(extras, func(o client.Object) bool {
		// The address of the API server itself, which kubeadm leaves to it.
		return o.GetNamespace() == metav1.NamespaceDefault
	})...)
	w := &apply.Writer{Client: world.client, Owner: "kamaji"}
	if _, err := w.All(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	return world.taken(t)
}

// detour is how kubeadm was led to the API server.
var detour = regexp.MustCompile(`(?m)^ *(proxy-url|tls-server-name): .*\n`)

// text of a record: without what is of this run only.
func (c *cluster) text(t *testing.T, objects []*unstructured.Unstructured) string {
	t.Helper()
	var out bytes.Buffer
	out.WriteString("# What kubeadm init writes into a cluster. UPDATE=kubeadm go test ./test/kubeadm makes it anew.\n")
	for _, object := range objects {
		data, err := yaml.Marshal(object.Object)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("---\n")
		out.Write(data)
	}
	certificate := strings.ReplaceAll(out.String(), base64.StdEncoding.EncodeToString(c.config.CAData), base64.StdEncoding.EncodeToString([]byte(authority)))
	return detour.ReplaceAllString(certificate, "")
}

// recorded reads a record.
func recorded(t *testing.T, path string) map[string]map[string]any {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]any{}
	for _, document := range strings.Split(string(data), "\n---\n")[1:] {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			t.Fatal(err)
		}
		out[name(object)] = object.Object
	}
	return out
}
