// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
)

func TestTemplatesAreImmutable(t *testing.T) {
	template := func(gpu string) *infrav1.RackMachineTemplate {
		out := &infrav1.RackMachineTemplate{}
		out.Spec.Template.Spec.HostSelector.MatchLabels = map[string]string{"gpu": gpu}
		return out
	}
	labelled := template("a")
	labelled.Spec.Template.ObjectMeta.Labels = map[string]string{"team": "x"}
	tried := template("b")
	tried.Annotations = map[string]string{clusterv1.TopologyDryRunAnnotation: ""}
	for name, c := range map[string]struct {
		after  *infrav1.RackMachineTemplate
		dryRun bool
		denied bool
	}{
		"unchanged":                        {after: template("a")},
		"metadata for machines":            {after: labelled},
		"changed":                          {after: template("b"), denied: true},
		"changed in a dry run":             {after: template("b"), dryRun: true, denied: true},
		"tried by the topology":            {after: tried, dryRun: true},
		"topology annotation but for real": {after: tried, denied: true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := admission.NewContextWithRequest(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{DryRun: ptr.To(c.dryRun)}})
			_, err := MachineTemplates{}.ValidateUpdate(ctx, template("a"), c.after)
			if (err != nil) != c.denied || err != nil && !strings.Contains(err.Error(), "spec.template.spec: Forbidden: is immutable") {
				t.Errorf("got %v, want denied %t", err, c.denied)
			}
		})
	}
}
