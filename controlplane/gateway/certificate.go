// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

const (
	// issueInterval is how soon a certificate that is not issued yet is looked at again: data planes wait for it to start.
	issueInterval = 2 * time.Second
	// expiredInterval is how soon one that expired is.
	expiredInterval = time.Minute
)

// certificateValid tells until when the data plane's certificate is valid, from the Certificate as cert-manager left it, or why it isn't.
func certificateValid(c *unstructured.Unstructured, now time.Time) (expires time.Time, err error) {
	text, _, _ := unstructured.NestedString(c.Object, "status", "notAfter")
	expires, err = time.Parse(time.RFC3339, text)
	switch {
	case err != nil:
		return time.Time{}, phase.WaitFor(issueInterval, v1alpha2.GatewayCertificatePendingReason,
			"waits for cert-manager to issue Certificate %s/%s%s", c.GetNamespace(), c.GetName(), said(c))
	case !now.Before(expires):
		return expires, phase.WaitFor(expiredInterval, v1alpha2.GatewayCertificateExpiredReason,
			"the client certificate of the data plane expired at %s: it keeps the routes it has and learns of no change; see why cert-manager didn't renew Certificate %s/%s%s",
			expires.UTC().Format(time.RFC3339), c.GetNamespace(), c.GetName(), said(c))
	}
	return expires, nil
}

// said is what cert-manager says about a Certificate that is not ready, to be put behind a sentence.
func said(c *unstructured.Unstructured) string {
	conditions, _, _ := unstructured.NestedSlice(c.Object, "status", "conditions")
	for _, condition := range conditions {
		fields, _ := condition.(map[string]any)
		message, _ := fields["message"].(string)
		if fields["type"] == "Ready" && fields["status"] != "True" && message != "" {
			return ": " + message
		}
	}
	return ""
}
