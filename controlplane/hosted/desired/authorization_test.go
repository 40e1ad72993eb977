// SPDX-License-Identifier: Apache-2.0

package desired_test

import (
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"sigs.k8s.io/yaml"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
)

// refuses evaluates the configuration as the API server does: an error means no.
func refuses(t *testing.T, permissions kamajiv1alpha1.WritePermissions) func(authorizationv1.SubjectAccessReviewSpec) error {
	t.Helper()
	in := input()
	in.Tenant.Spec.WritePermissions = permissions
	config := apiserverv1.AuthorizationConfiguration{}
	for _, object := range desired.Workload(in) {
		if c, ok := object.(*corev1.ConfigMap); ok && c.Name == desired.Name(in.Tenant, desired.Authorization) {
			if err := yaml.UnmarshalStrict([]byte(c.Data["authorization.yaml"]), &config); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(config.Authorizers) != 3 || config.Authorizers[0].Webhook.FailurePolicy != "Deny" {
		t.Fatalf("authorizers %+v", config.Authorizers)
	}
	compiler := authorizationcel.NewCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	matcher := authorizationcel.CELMatcher{}
	for _, condition := range config.Authorizers[0].Webhook.MatchConditions {
		compiled, err := compiler.CompileCELExpression(&authorizationcel.SubjectAccessReviewMatchCondition{Expression: condition.Expression})
		if err != nil {
			t.Fatal(err)
		}
		matcher.CompilationResults = append(matcher.CompilationResults, compiled)
	}
	return func(spec authorizationv1.SubjectAccessReviewSpec) error {
		matches, err := matcher.Eval(t.Context(), &authorizationv1.SubjectAccessReview{Spec: spec})
		if matches {
			t.Errorf("the webhook would be called for %+v", spec)
		}
		return err
	}
}

func TestWritePermissions(t *testing.T) {
	const none, creation, update, deletion = 0, 1, 2, 4
	const always = 7
	user := func(name string, groups ...string) authorizationv1.SubjectAccessReviewSpec {
		return authorizationv1.SubjectAccessReviewSpec{User: name, Groups: groups}
	}
	admin := user("kubernetes-admin", "kubeadm:cluster-admins", "system:authenticated")
	type attributes = authorizationv1.ResourceAttributes
	for name, c := range map[string]struct {
		who     authorizationv1.SubjectAccessReviewSpec
		what    attributes
		blocked int
	}{
		"read":                {admin, attributes{Verb: "list", Resource: "pods"}, none},
		"create":              {admin, attributes{Verb: "create", Resource: "pods", Namespace: "default"}, creation},
		"create cluster-wide": {admin, attributes{Verb: "create", Group: "rbac.authorization.k8s.io", Resource: "clusterroles"}, creation},
		"update":              {admin, attributes{Verb: "update", Group: "apps", Resource: "deployments", Namespace: "default"}, update},
		"scale":               {admin, attributes{Verb: "patch", Group: "apps", Resource: "deployments", Subresource: "scale", Namespace: "default"}, update},
		"bind":                {admin, attributes{Verb: "create", Resource: "pods", Subresource: "binding", Namespace: "default"}, update},
		"delete":              {admin, attributes{Verb: "delete", Resource: "namespaces", Name: "a"}, deletion},
		"delete many":         {admin, attributes{Verb: "deletecollection", Resource: "pods", Namespace: "default"}, deletion},
		"evict":               {admin, attributes{Verb: "create", Resource: "pods", Subresource: "eviction", Namespace: "default"}, deletion},
		"exec":                {admin, attributes{Verb: "create", Resource: "pods", Subresource: "exec", Namespace: "default"}, none},
		"a token":             {admin, attributes{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "default"}, none},
		"a lease":             {admin, attributes{Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "default"}, none},
		"an event":            {admin, attributes{Verb: "create", Resource: "events", Namespace: "default"}, none},
		"a new event":         {admin, attributes{Verb: "patch", Group: "events.k8s.io", Resource: "events", Namespace: "default"}, none},
		"who may":             {admin, attributes{Verb: "create", Group: "authorization.k8s.io", Resource: "selfsubjectaccessreviews"}, none},
		"who am I":            {admin, attributes{Verb: "create", Group: "authentication.k8s.io", Resource: "selfsubjectreviews"}, none},
		"the anonymous":       {user("system:anonymous"), attributes{Verb: "create", Resource: "pods", Namespace: "default"}, creation},

		"as the superuser":            {admin, attributes{Verb: "impersonate", Resource: "groups", Name: "system:masters"}, always},
		"as the controller manager":   {admin, attributes{Verb: "impersonate", Resource: "users", Name: "system:kube-controller-manager"}, always},
		"as a controller":             {admin, attributes{Verb: "impersonate", Resource: "serviceaccounts", Namespace: "kube-system", Name: "job-controller"}, always},
		"as somebody":                 {admin, attributes{Verb: "impersonate", Resource: "users", Name: "jane"}, none},
		"as everybody":                {admin, attributes{Verb: "impersonate", Resource: "groups", Name: "system:authenticated"}, none},
		"approve a certificate":       {admin, attributes{Verb: "approve", Group: "certificates.k8s.io", Resource: "signers", Name: "kubernetes.io/kube-apiserver-client"}, always},
		"a controller's token":        {admin, attributes{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "kube-system", Name: "job-controller"}, always},
		"a pod of a controller":       {admin, attributes{Verb: "create", Resource: "pods", Namespace: "kube-system"}, always},
		"exec into an addon":          {admin, attributes{Verb: "get", Resource: "pods", Subresource: "exec", Namespace: "kube-system"}, always},
		"exec through the node":       {admin, attributes{Verb: "get", Resource: "nodes", Subresource: "proxy", Name: "n"}, always},
		"delete an addon":             {admin, attributes{Verb: "delete", Resource: "pods", Namespace: "kube-system"}, deletion},
		"the controller manager":      {user("system:kube-controller-manager"), attributes{Verb: "update", Resource: "endpoints", Namespace: "default"}, none},
		"a controller":                {user("system:serviceaccount:kube-system:replicaset-controller", "system:serviceaccounts", "system:serviceaccounts:kube-system"), attributes{Verb: "create", Resource: "pods", Namespace: "default"}, none},
		"somebody's ServiceAccount":   {user("system:serviceaccount:default:kube-system", "system:serviceaccounts", "system:serviceaccounts:default"), attributes{Verb: "create", Resource: "pods", Namespace: "default"}, creation},
		"a kubelet":                   {user("system:node:n", "system:nodes"), attributes{Verb: "patch", Resource: "pods", Subresource: "status", Namespace: "default"}, none},
		"a node that joins":           {user("system:bootstrap:abcdef", "system:bootstrappers"), attributes{Verb: "create", Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}, none},
		"a user with a trusted group": {user("jane", "system:nodes-of-jane"), attributes{Verb: "delete", Resource: "pods", Namespace: "default"}, deletion},
	} {
		t.Run(name, func(t *testing.T) {
			for flags, permissions := range map[int]kamajiv1alpha1.WritePermissions{
				creation: {BlockCreation: true}, update: {BlockUpdate: true}, deletion: {BlockDeletion: true},
			} {
				spec := c.who
				spec.ResourceAttributes = &c.what
				err := refuses(t, permissions)(spec)
				if want := c.blocked&flags != 0; (err != nil) != want {
					t.Errorf("%+v: refused %t, want %t: %v", permissions, err != nil, want, err)
				}
				if err != nil && !strings.Contains(err.Error(), "spec.writePermissions") {
					t.Errorf("the reason is no help: %v", err)
				}
			}
		})
	}
	paths := user("jane")
	paths.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: "/healthz", Verb: "get"}
	if err := refuses(t, kamajiv1alpha1.WritePermissions{BlockCreation: true, BlockUpdate: true, BlockDeletion: true})(paths); err != nil {
		t.Errorf("a path that is no object: %v", err)
	}
}

// Releases before 1.32 know the configuration as beta.
func TestAuthorizationVersion(t *testing.T) {
	for version, want := range map[string]string{"1.31.9": "apiserver.config.k8s.io/v1beta1", "v1.32.0": "apiserver.config.k8s.io/v1"} {
		in := input()
		in.Tenant.Spec.Kubernetes.Version = version
		in.Tenant.Spec.WritePermissions.BlockCreation = true
		found := false
		for _, object := range desired.Workload(in) {
			if c, ok := object.(*corev1.ConfigMap); ok && strings.Contains(c.Data["authorization.yaml"], "apiVersion: "+want+"\n") {
				found = true
			}
		}
		if !found {
			t.Errorf("%s: no configuration of version %s", version, want)
		}
	}
}
