// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"
	"sigs.k8s.io/cluster-api/cmd/clusterctl/client/yamlprocessor"
)

// clusterScoped are the kinds in component files that have no namespace.
var clusterScoped = []string{"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding",
	"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "PriorityClass"}

// image is how a released image of ours is named; clusterctl's image overrides need a tag to replace.
var image = regexp.MustCompile(`^ghcr\.io/cluster-api-provider-kamaji/[a-z-]+:v\d+\.\d+\.\d+$`)

func TestComponents(t *testing.T) {
	owners := map[string]string{}
	for _, p := range providers {
		t.Run(p.tree, func(t *testing.T) {
			objects, err := p.components()
			if err != nil {
				t.Fatal(err)
			}
			for _, object := range objects {
				name := object.GetKind() + "/" + object.GetName()
				if got := object.GetLabels()[clusterctlv1.ClusterctlLabel]; got != "" {
					t.Errorf("%s has label %s=%s, which is clusterctl's to set", name, clusterctlv1.ClusterctlLabel, got)
				}
				if got := object.GetLabels()["cluster.x-k8s.io/provider"]; got != p.label {
					t.Errorf("%s has provider label %q, want %q", name, got, p.label)
				}
				checkScope(t, p, object)
				if slices.Contains(clusterScoped, object.GetKind()) {
					if other, taken := owners[name]; taken {
						t.Errorf("%s is in %s too: uninstalling one provider would break the other", name, other)
					}
					owners[name] = p.file
				}
			}
			checkDeployment(t, objects)
			checkAggregation(t, p, objects)
		})
	}
}

// checkScope wants one namespace, everything in it, and cluster-scoped names that no other provider uses.
func checkScope(t *testing.T, p provider, object *unstructured.Unstructured) {
	t.Helper()
	name := object.GetKind() + "/" + object.GetName()
	switch {
	case object.GetKind() == "Namespace":
		if object.GetName() != p.namespace {
			t.Errorf("%s: clusterctl installs into one namespace, %s", name, p.namespace)
		}
	case !slices.Contains(clusterScoped, object.GetKind()):
		if object.GetNamespace() != p.namespace {
			t.Errorf("%s is in namespace %q, want %q", name, object.GetNamespace(), p.namespace)
		}
	default:
		if object.GetNamespace() != "" {
			t.Errorf("%s has a namespace, though its kind has none", name)
		}
		if object.GetKind() != "CustomResourceDefinition" && !strings.HasPrefix(object.GetName(), p.prefix) {
			t.Errorf("%s: cluster-scoped names begin with %q", name, p.prefix)
		}
	}
}

// checkDeployment wants exactly one manager that any hardened cluster admits.
func checkDeployment(t *testing.T, objects []*unstructured.Unstructured) {
	t.Helper()
	var deployments []appsv1.Deployment
	for _, object := range objects {
		if object.GetKind() != "Deployment" {
			continue
		}
		var deployment appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, &deployment, true); err != nil {
			t.Fatal(err)
		}
		deployments = append(deployments, deployment)
	}
	if len(deployments) != 1 || len(deployments[0].Spec.Template.Spec.Containers) != 1 {
		t.Fatalf("%d Deployments; want one, with one container", len(deployments))
	}
	pod := deployments[0].Spec.Template.Spec
	container := pod.Containers[0]
	if container.Name != "manager" {
		t.Errorf("the container is named %q; clusterctl looks for manager", container.Name)
	}
	if !image.MatchString(container.Image) {
		t.Errorf("image %s: want a released image of ours with its version", container.Image)
	}
	if !slices.Contains(container.Args, "--leader-elect") {
		t.Error("the manager runs without leader election")
	}
	if container.LivenessProbe == nil || container.ReadinessProbe == nil {
		t.Error("the manager has no liveness or readiness probe")
	}
	if container.Resources.Requests.Cpu().IsZero() || container.Resources.Requests.Memory().IsZero() {
		t.Error("the manager requests no CPU or memory")
	}
	if pod.SecurityContext == nil || pod.SecurityContext.RunAsNonRoot == nil || !*pod.SecurityContext.RunAsNonRoot ||
		pod.SecurityContext.SeccompProfile == nil || container.SecurityContext == nil ||
		container.SecurityContext.AllowPrivilegeEscalation == nil || *container.SecurityContext.AllowPrivilegeEscalation ||
		container.SecurityContext.Capabilities == nil || !slices.Equal(container.SecurityContext.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Error(`the manager doesn't satisfy the Pod Security Standard "restricted"`)
	}
}

// checkAggregation wants a role that lets Cluster API core work with the contract's kinds.
func checkAggregation(t *testing.T, p provider, objects []*unstructured.Unstructured) {
	t.Helper()
	granted := map[string][]string{}
	for _, object := range objects {
		if object.GetKind() != "ClusterRole" || object.GetLabels()["cluster.x-k8s.io/aggregate-to-manager"] != "true" {
			continue
		}
		var role rbacv1.ClusterRole
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					granted[resource+"."+group] = append(granted[resource+"."+group], rule.Verbs...)
				}
			}
		}
	}
	for kind, template := range p.kinds {
		plural := strings.ToLower(kind) + "s"
		want := map[string][]string{plural: {"create", "delete", "get", "list", "patch", "update", "watch"}, plural + "/finalizers": {"update"}}
		if template {
			want[plural] = []string{"get", "list", "patch", "update", "watch"}
		}
		for resource, verbs := range want {
			for _, verb := range verbs {
				if !slices.Contains(granted[resource+"."+p.group], verb) {
					t.Errorf("Cluster API core may not %s %s.%s", verb, resource, p.group)
				}
			}
		}
	}
}

// The subject is a User on purpose: clusterctl moves ServiceAccounts of role bindings into our namespace.
func TestBootstrapProviderMayReadControlPlanes(t *testing.T) {
	objects, err := providers[0].components()
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if object.GetKind() != "ClusterRoleBinding" || object.GetName() != "kamaji-bootstrap-provider" {
			continue
		}
		var binding rbacv1.ClusterRoleBinding
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &binding); err != nil {
			t.Fatal(err)
		}
		want := []rbacv1.Subject{{
			APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind,
			Name: "system:serviceaccount:capi-kubeadm-bootstrap-system:capi-kubeadm-bootstrap-manager",
		}}
		if !slices.Equal(binding.Subjects, want) {
			t.Errorf("subjects %v, want %v", binding.Subjects, want)
		}
		return
	}
	t.Fatal("no binding for the kubeadm bootstrap provider")
}

// Every variable of a component file has a default and is documented.
func TestComponentVariables(t *testing.T) {
	documentation, err := read("docs/variables.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range providers {
		out, err := build("config/" + p.tree + "/default")
		if err != nil {
			t.Fatal(err)
		}
		variables, err := yamlprocessor.NewSimpleProcessor().GetVariableMap([]byte(out))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range variables {
			if value == nil {
				t.Errorf("%s: variable %s has no default", p.file, name)
			}
			if !strings.Contains(string(documentation), "`"+name+"`") {
				t.Errorf("%s: variable %s is not in docs/variables.md", p.file, name)
			}
		}
	}
}
