// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Tenants hold client certificates of the CA that members trust as peers too. What tells the two apart is a name that
// only the members' certificate has.
func TestEtcdTellsMembersFromTenants(t *testing.T) {
	for _, folder := range []string{"config/datastore/etcd", "config/datastore/etcd-3", "config/datastore/lab"} {
		t.Run(folder, func(t *testing.T) {
			objects := parsed(t, folder, rendering(folder))
			var names []string
			var allowed string
			for _, object := range objects {
				switch object.GetKind() + "/" + object.GetName() {
				case "Certificate/etcd-server":
					names, _, _ = unstructured.NestedStringSlice(object.Object, "spec", "dnsNames")
				case "StatefulSet/etcd":
					containers, _, _ := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "containers")
					args, _, _ := unstructured.NestedStringSlice(containers[0].(map[string]any), "args")
					for _, arg := range args {
						if value, ok := strings.CutPrefix(arg, "--peer-cert-allowed-hostname="); ok {
							allowed = value
						}
					}
				}
			}
			if allowed == "" || !slices.Contains(names, allowed) {
				t.Errorf("peers need the name %q in their certificates; the members' has %v", allowed, names)
			}
		})
	}
}

// cert-manager replaces the key of a Certificate at renewal unless told otherwise. For a CA that would cut off everybody
// who trusts the old one.
func TestAuthoritiesKeepTheirKeys(t *testing.T) {
	for _, folder := range []string{"config/datastore/etcd", "config/datastore/postgres", "config/datastore/mariadb", "config/controlplane/default", "config/infrastructure/default"} {
		objects := parsed(t, folder, rendering(folder))
		for _, object := range objects {
			authority, _, _ := unstructured.NestedBool(object.Object, "spec", "isCA")
			if object.GetKind() != "Certificate" || !authority {
				continue
			}
			if policy, _, _ := unstructured.NestedString(object.Object, "spec", "privateKey", "rotationPolicy"); policy != "Never" {
				t.Errorf("%s: the rotation policy of authority %s is %q, want Never", folder, object.GetName(), policy)
			}
		}
	}
}

// rendering returns a function for parsed. Variables stay as they are: they are in fields that are not looked at here.
func rendering(folder string) func() ([]byte, error) {
	return func() ([]byte, error) {
		out, err := build(folder)
		return []byte(out), err
	}
}
