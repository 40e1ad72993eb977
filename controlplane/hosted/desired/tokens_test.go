// SPDX-License-Identifier: Apache-2.0

package desired_test

import (
	"slices"
	"testing"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
)

func TestTokens(t *testing.T) {
	const ours = "https://kubernetes.default.svc.cluster.local"
	for name, tc := range map[string]struct{ args, issuers, audiences []string }{
		"none given":          {nil, []string{ours}, []string{ours}},
		"issuers":             {[]string{"--service-account-issuer=https://a", "--v=2", "--service-account-issuer=https://b"}, []string{"https://a", "https://b"}, []string{"https://a", "https://b"}},
		"an argument apart":   {[]string{"--service-account-issuer", "https://a"}, []string{"https://a"}, []string{"https://a"}},
		"audiences":           {[]string{"--api-audiences=x,y", "--api-audiences=z"}, []string{ours}, []string{"x", "y", "z"}},
		"a value like a flag": {[]string{"--v=2", "service-account-issuer"}, []string{ours}, []string{ours}},
	} {
		tenant := &kamajiv1alpha1.TenantControlPlane{}
		if tc.args != nil {
			tenant.Spec.ControlPlane.Deployment.ExtraArgs = &kamajiv1alpha1.ControlPlaneExtraArgs{APIServer: tc.args}
		}
		issuers, audiences := desired.Tokens(tenant)
		if !slices.Equal(issuers, tc.issuers) || !slices.Equal(audiences, tc.audiences) {
			t.Errorf("%s: issuers %v, audiences %v", name, issuers, audiences)
		}
	}
}
