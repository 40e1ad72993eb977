// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// cert-manager replaces the key of a Certificate at renewal unless told otherwise. For a CA that would cut off everybody
// who trusts the old one.
func TestAuthoritiesKeepTheirKeys(t *testing.T) {
	for _, folder := range []string{"config/datastore/etcd", "config/controlplane/default", "config/infrastructure/default"} {
		objects, err := objectsIn(folder)
		if err != nil {
			t.Fatal(err)
		}
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

// objectsIn renders a folder without regard to variables, which are only in fields that are not looked at here.
func objectsIn(folder string) ([]*unstructured.Unstructured, error) {
	out, err := build(folder)
	if err != nil {
		return nil, err
	}
	return parse([]byte(out))
}
