// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apimachineryyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ManagerUser is who AsManager gives the rights to; a manager in a test can be made to impersonate it.
const ManagerUser = "manager-under-test"

// AsManager returns an uncached client with the rights that the roles in the file (relative to the repository) give a
// manager, and no others, so that a test fails on what the installed manager may not do. admin, on the same API
// server, must know the kinds of Kubernetes; namespaces of Roles are made if need be.
func AsManager(t testing.TB, config *rest.Config, admin client.Client, file string) client.Client {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(Root(), file))
	if err != nil {
		t.Fatal(err)
	}
	decoder := apimachineryyaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), len(data))
	for {
		// A Role has no field that a ClusterRole lacks.
		role := &rbacv1.ClusterRole{}
		if err := decoder.Decode(role); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("reading %s: %v", file, err)
		}
		for _, object := range granted(role) {
			err := admin.Create(t.Context(), object)
			if _, namespace := object.(*corev1.Namespace); namespace && apierrors.IsAlreadyExists(err) {
				continue
			}
			if err != nil {
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

// Manager returns a configuration with which a manager has the rights of AsManager. The test fails for each request
// that is refused for want of a right, whatever becomes of the error.
func Manager(t testing.TB, config *rest.Config, admin client.Client, file string) *rest.Config {
	t.Helper()
	AsManager(t, config, admin, file)
	config = rest.CopyConfig(config)
	config.Impersonate.UserName = ManagerUser
	refused := &refusals{seen: map[string]bool{}}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) { return refused.note(next.RoundTrip(r)) })
	})
	t.Cleanup(func() {
		refused.mu.Lock()
		defer refused.mu.Unlock()
		for text := range refused.seen {
			t.Errorf("the manager lacks a right: %s", text)
		}
	})
	return config
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// refusals are the texts of answers that say what the caller may not do.
type refusals struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (r *refusals) note(response *http.Response, err error) (*http.Response, error) {
	if err != nil || response.StatusCode != http.StatusForbidden {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	// Admission refuses with the same status, for example in a namespace that is being deleted.
	if bytes.Contains(body, []byte("cannot ")) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen[string(body)] = true
	}
	return response, nil
}

// granted is the role with its binding to ManagerUser.
func granted(role *rbacv1.ClusterRole) []client.Object {
	meta := metav1.ObjectMeta{Name: role.Name, Namespace: role.Namespace}
	reference := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: role.Kind, Name: role.Name}
	subjects := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: ManagerUser}}
	switch role.Kind {
	case "ClusterRole":
		return []client.Object{role, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: reference, Subjects: subjects}}
	case "Role":
		return []client.Object{
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: role.Namespace}},
			&rbacv1.Role{ObjectMeta: meta, Rules: role.Rules},
			&rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: reference, Subjects: subjects},
		}
	}
	return nil
}
