// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// pending changes the pods twice while those of an earlier change are ready and
// not yet available, and the number of pods, too.
func (w *world) pending(t *testing.T) {
	change := func(replicas int32, colour string) {
		t.Helper()
		tn := &kamajiv1alpha1.TenantControlPlane{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name}}
		patch := fmt.Sprintf(`{"spec":{"controlPlane":{"deployment":{"replicas":%d,"podAdditionalMetadata":{"annotations":{"colour":%q}}}}}}`, replicas, colour)
		if err := w.client.Patch(t.Context(), tn, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
			t.Fatal(err)
		}
	}
	d := w.deployment(t, name)
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 4, UpdatedReplicas: 2, ReadyReplicas: 4, AvailableReplicas: 2}
	if err := w.client.Status().Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	before := d.Generation
	change(2, "red")
	tn := w.tenant(t, name, kamajiv1alpha1.WorkloadReadyCondition, metav1.ConditionFalse, kamajiv1alpha1.ChangePendingReason)
	if c := meta.FindStatusCondition(tn.Status.Conditions, kamajiv1alpha1.WorkloadReadyCondition); !strings.Contains(c.Message, "2 of 4 pods") {
		t.Errorf("progress is not told: %s", c.Message)
	}
	change(3, "blue")
	w.eventually(t, func(context.Context) string {
		if have := *w.deployment(t, name).Spec.Replicas; have != 3 {
			return fmt.Sprintf("the number of pods waits, too: %d", have)
		}
		return ""
	})
	written, version := w.objects(t, name), w.deployment(t, name).ResourceVersion
	if _, err := w.engine().Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
		t.Fatal(err)
	}
	d = w.deployment(t, name)
	if d.Generation != before+1 || d.ResourceVersion != version || d.Spec.Template.Annotations["colour"] != "" || len(written) != len(w.objects(t, name)) {
		t.Errorf("written while pods become available: generation %d after %d, %v", d.Generation, before, d.Spec.Template.Annotations)
	}
	w.pods(t, name, 3)
	w.eventually(t, func(context.Context) string {
		d = w.deployment(t, name)
		if have := d.Spec.Template.Annotations["colour"]; have != "blue" || d.Generation != before+2 {
			return fmt.Sprintf("annotation %q at generation %d, after %d", have, d.Generation, before)
		}
		return ""
	})
	w.pods(t, name, 3)
	w.tenant(t, name, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
	change(2, "blue")
	w.serve(t, name, 2)
}
