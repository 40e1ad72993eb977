// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/upgrade"
)

const (
	authorizationPath   = "/etc/kubernetes/authorization"
	authorizationFile   = "authorization.yaml"
	refusalFile         = "refusal.conf"
	authorizationVolume = "authorization"
)

// refused is what a client reads whose write is refused, in the words of the API
// server around it.
const refused = "writes are refused: spec.writePermissions of the TenantControlPlane"

// attribute of the request in a CEL expression of the authorization configuration.
const attribute = "request.resourceAttributes."

// trusted run the cluster rather than use it: control plane, kubelets, nodes that
// join, and addons in kube-system. What they do follows from objects that exist.
var (
	trustedUsers  = []string{"system:apiserver", "system:kube-controller-manager", "system:kube-scheduler"}
	trustedGroups = []string{"system:nodes", "system:bootstrappers", "system:serviceaccounts:kube-system"}
)

// WriteLimited says that the tenant's API shall refuse some writes.
func WriteLimited(tenant *kamajiv1alpha1.TenantControlPlane) bool {
	w := tenant.Spec.WritePermissions
	return w.BlockCreation || w.BlockUpdate || w.BlockDeletion
}

// WriteLimitConflict is an argument of the user's for kube-apiserver that can't be
// given together with writePermissions, empty if there is none.
func WriteLimitConflict(tenant *kamajiv1alpha1.TenantControlPlane) string {
	extra := tenant.Spec.ControlPlane.Deployment.ExtraArgs
	if extra == nil || !WriteLimited(tenant) {
		return ""
	}
	for _, arg := range extra.APIServer {
		if name := flagName(arg); strings.HasPrefix(name, "authorization-") {
			return "--" + name
		}
	}
	return ""
}

// authorizationConfig has the API server ask a webhook about writes that are to be
// refused, before its own authorizers. The question can't be put, which means no:
// that needs no server, no network, and nothing that the tenant could change.
// Members of system:masters are never asked about; the engine is one.
func authorizationConfig(tenant *kamajiv1alpha1.TenantControlPlane) *corev1.ConfigMap {
	version := "apiserver.config.k8s.io/v1"
	if upgrade.Minor(tenant.KubernetesVersion()) < 32 {
		version = "apiserver.config.k8s.io/v1beta1"
	}
	config := apiserverv1.AuthorizationConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: version, Kind: "AuthorizationConfiguration"},
		Authorizers: []apiserverv1.AuthorizerConfiguration{
			{Type: "Webhook", Name: "write-permissions", Webhook: &apiserverv1.WebhookConfiguration{
				AuthorizedTTL: metav1.Duration{Duration: time.Second}, UnauthorizedTTL: metav1.Duration{Duration: time.Second},
				Timeout: metav1.Duration{Duration: time.Second}, SubjectAccessReviewVersion: "v1", MatchConditionSubjectAccessReviewVersion: "v1",
				FailurePolicy: "Deny",
				ConnectionInfo: apiserverv1.WebhookConnectionInfo{
					Type: "KubeConfigFile", KubeConfigFile: ptr.To(authorizationPath + "/" + refusalFile),
				},
				MatchConditions: []apiserverv1.WebhookMatchCondition{
					{Expression: blocked(tenant.Spec.WritePermissions)},
					// Only reached by what is blocked: looking up a key that isn't there is an error, and its text the reason.
					{Expression: fmt.Sprintf("{request.user: true}[%q]", refused)},
				},
			}},
			{Type: "Node", Name: "node"},
			{Type: "RBAC", Name: "rbac"},
		},
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		// Only values that JSON has no form for can get here, and there are none above.
		panic(err)
	}
	return configMap(tenant, Authorization, map[string]string{authorizationFile: string(text), refusalFile: refusal})
}

// refusal is the kubeconfig of the webhook. It is never used: the conditions either
// don't match or can't be evaluated. Nothing listens on port 1.
const refusal = `apiVersion: v1
kind: Config
clusters:
- name: nowhere
  cluster: {server: "https://127.0.0.1:1"}
contexts:
- name: nowhere
  context: {cluster: nowhere}
current-context: nowhere
`

// blocked is the CEL expression that is true for writes to be refused.
func blocked(w kamajiv1alpha1.WritePermissions) string {
	verb, group, resource, sub, namespace, name := attribute+"verb", attribute+"group", attribute+"resource", attribute+"subresource", attribute+"namespace", attribute+"name"
	// A new identity that is trusted would be a way around: by impersonation, by a signed certificate, or by a pod, a token
	// or a Secret where the trusted ones live.
	writes := []string{
		fmt.Sprintf("(%s.startsWith('impersonate') && (%s == 'kube-system' || %s.startsWith('system:') && !(%s in ['system:authenticated', 'system:unauthenticated'])))", verb, namespace, name, name),
		fmt.Sprintf("%s in ['approve', 'sign']", verb),
		fmt.Sprintf("(%s == 'kube-system' && (%s in ['create', 'update', 'patch'] || %s in ['exec', 'attach']))", namespace, verb, sub),
		fmt.Sprintf("(%s == 'nodes' && %s == 'proxy')", resource, sub),
	}
	if w.BlockCreation {
		writes = append(writes, fmt.Sprintf("(%s == 'create' && %s == '')", verb, sub))
	}
	if w.BlockUpdate {
		writes = append(writes, fmt.Sprintf("%s in ['update', 'patch']", verb), fmt.Sprintf("(%s == 'create' && %s == 'binding')", verb, sub))
	}
	if w.BlockDeletion {
		writes = append(writes, fmt.Sprintf("%s in ['delete', 'deletecollection']", verb), fmt.Sprintf("(%s == 'create' && %s == 'eviction')", verb, sub))
	}
	// Heartbeats, Events, and questions that are put by creating an object which is not stored.
	harmless := []string{
		fmt.Sprintf("(%s == 'coordination.k8s.io' && %s == 'leases')", group, resource),
		fmt.Sprintf("(%s in ['', 'events.k8s.io'] && %s == 'events')", group, resource),
		fmt.Sprintf("(%s in ['authentication.k8s.io', 'authorization.k8s.io'] && %s.endsWith('reviews'))", group, resource),
	}
	return strings.Join([]string{
		"has(request.resourceAttributes)",
		"!(request.user in " + quoted(trustedUsers) + ")",
		"!request.groups.exists(g, g in " + quoted(trustedGroups) + ")",
		"!(" + strings.Join(harmless, " || ") + ")",
		"(" + strings.Join(writes, " || ") + ")",
	}, " && ")
}

func quoted(names []string) string {
	return "['" + strings.Join(slices.Sorted(slices.Values(names)), "', '") + "']"
}
