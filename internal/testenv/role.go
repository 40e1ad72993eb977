// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apimachineryyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ManagerUser is who AsManager gives the rights to; a manager in a test can be made to impersonate it.
const ManagerUser = "manager-under-test"

// AsManager returns an uncached client with the rights that the ClusterRole in the file (relative to the repository)
// gives a manager, and no others, so that a test fails on what the installed manager may not do. admin, on the same
// API server, must know the kinds of group rbac.authorization.k8s.io.
func AsManager(t testing.TB, config *rest.Config, admin client.Client, file string) client.Client {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(Root(), file))
	if err != nil {
		t.Fatal(err)
	}
	decoder := apimachineryyaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), len(data))
	for {
		role := &rbacv1.ClusterRole{}
		if err := decoder.Decode(role); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("reading %s: %v", file, err)
		}
		if role.Kind != "ClusterRole" {
			continue
		}
		binding := &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: role.Name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: role.Kind, Name: role.Name},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: ManagerUser}},
		}
		for _, object := range []client.Object{role, binding} {
			if err := admin.Create(t.Context(), object); err != nil {
				t.Fatalf("creating %T %s: %v", object, object.GetName(), err)
			}
		}
	}
	config = rest.CopyConfig(config)
	config.Impersonate.UserName = ManagerUser
	c, err := client.New(config, client.Options{Scheme: admin.Scheme()})
	if err != nil {
		t.Fatalf("making a client: %v", err)
	}
	return c
}
