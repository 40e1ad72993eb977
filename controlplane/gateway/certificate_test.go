// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v1alpha2 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

func TestCertificateValid(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ready := func(status, message string) []any {
		return []any{map[string]any{"type": "Issuing"}, map[string]any{"type": "Ready", "status": status, "message": message}}
	}
	for _, tc := range []struct {
		name            string
		status          map[string]any
		reason, message string
	}{
		{"not looked at", nil, v1alpha2.GatewayCertificatePendingReason, "waits for cert-manager to issue Certificate kamaji-system/kamaji-gateway-default"},
		{"refused", map[string]any{"conditions": ready("False", "no such issuer")}, v1alpha2.GatewayCertificatePendingReason, ": no such issuer"},
		{"valid", map[string]any{"notAfter": "2026-01-01T00:00:01Z", "conditions": ready("True", "up to date")}, phase.ReasonDone, ""},
		{"valid, not renewed", map[string]any{"notAfter": "2026-01-02T00:00:00Z", "conditions": ready("False", "issuer is gone")}, phase.ReasonDone, ""},
		{
			"expired",
			map[string]any{"notAfter": "2026-01-01T00:00:00Z", "conditions": ready("False", "issuer is gone")},
			v1alpha2.GatewayCertificateExpiredReason, "expired at 2026-01-01T00:00:00Z: it keeps the routes",
		},
	} {
		c := xdsCertificate(testGateway(), here)
		if tc.status != nil {
			if err := unstructured.SetNestedField(c.Object, tc.status, "status"); err != nil {
				t.Fatal(err)
			}
		}
		_, err := certificateValid(c, now)
		if reason, message := phase.Outcome(err); reason != tc.reason || !strings.Contains(message, tc.message) {
			t.Errorf("%s: got %s %q, want %s %q", tc.name, reason, message, tc.reason, tc.message)
		}
	}
}
