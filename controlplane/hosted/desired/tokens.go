// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"strings"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// issuer of ServiceAccount tokens, unless the user's arguments name others.
func issuer(tenant *kamajiv1alpha1.TenantControlPlane) string {
	return "https://kubernetes.default.svc." + tenant.ClusterDomain()
}

// Tokens says which tokens of ServiceAccounts the API server takes: those by one of the issuers, for one of the audiences.
func Tokens(tenant *kamajiv1alpha1.TenantControlPlane) (issuers, audiences []string) {
	var user []string
	if extra := tenant.Spec.ControlPlane.Deployment.ExtraArgs; extra != nil {
		user = extra.APIServer
	}
	if issuers = values(user, "service-account-issuer"); len(issuers) == 0 {
		issuers = []string{issuer(tenant)}
	}
	for _, list := range values(user, "api-audiences") {
		audiences = append(audiences, strings.Split(list, ",")...)
	}
	if len(audiences) == 0 {
		audiences = issuers
	}
	return issuers, audiences
}
