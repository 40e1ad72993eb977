// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// secretVerbs is all that a manager may do with Secrets of any namespace. Rack reads the ones that its objects name.
var secretVerbs = map[string][]string{
	"kamaji-": {"create", "delete", "get", "list", "patch", "watch"},
	"rack-":   {"get"},
}

// The managers' roles say what is used, one by one, and nothing with which more could be had.
func TestRoles(t *testing.T) {
	for _, p := range providers {
		t.Run(p.tree, func(t *testing.T) {
			objects, err := p.components()
			if err != nil {
				t.Fatal(err)
			}
			reviews := map[string]bool{}
			for _, object := range objects {
				for _, rule := range rules(t, object) {
					name := object.GetKind() + "/" + object.GetName()
					for _, list := range [][]string{rule.Verbs, rule.APIGroups, rule.Resources} {
						if slices.Contains(list, "*") {
							t.Errorf("%s has a wildcard: %v", name, rule)
						}
					}
					for _, verb := range []string{"bind", "escalate", "impersonate", "deletecollection"} {
						if slices.Contains(rule.Verbs, verb) {
							t.Errorf("%s may %s: %v", name, verb, rule)
						}
					}
					for _, verb := range rule.Verbs {
						if slices.Contains(rule.Resources, "secrets") && !slices.Contains(secretVerbs[p.prefix], verb) {
							t.Errorf("%s may %s Secrets", name, verb)
						}
					}
					for _, resource := range rule.Resources {
						if object.GetKind() == "ClusterRole" && slices.Contains(rule.Verbs, "create") {
							reviews[resource] = true
						}
					}
				}
			}
			// The metrics endpoint asks who the reader is and what it may do, and refuses everybody when it can't.
			for _, resource := range []string{"tokenreviews", "subjectaccessreviews"} {
				if !reviews[resource] {
					t.Errorf("the manager may not create %s, so nobody can read its metrics", resource)
				}
			}
		})
	}
}

func rules(t *testing.T, object *unstructured.Unstructured) []rbacv1.PolicyRule {
	t.Helper()
	if object.GetKind() != "ClusterRole" && object.GetKind() != "Role" {
		return nil
	}
	var role rbacv1.ClusterRole
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role); err != nil {
		t.Fatal(err)
	}
	return role.Rules
}
