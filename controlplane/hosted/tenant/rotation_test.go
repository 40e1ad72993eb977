// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

func (w *world) secret(t *testing.T, name string) *corev1.Secret {
	t.Helper()
	out := &corev1.Secret{}
	if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: system, Name: name}, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// rotates asks for new contents of Secrets, and expects them, stamped, in those and no others, and running pods.
func (w *world) rotates(t *testing.T, tenant string, asked, with []string) {
	t.Helper()
	before := map[string]*corev1.Secret{}
	for _, suffix := range append(asked, with...) {
		before[suffix] = w.secret(t, tenant+"-"+suffix)
	}
	ca := w.secret(t, tenant+"-ca")
	for _, suffix := range asked {
		w.annotate(t, before[suffix].DeepCopy(), kamajiv1alpha1.RotateAnnotation, "")
	}
	w.eventually(t, func(context.Context) string {
		for suffix, old := range before {
			now := w.secret(t, tenant+"-"+suffix)
			if _, err := time.Parse(time.RFC3339, now.Annotations[kamajiv1alpha1.RotateAnnotation]); err != nil {
				return suffix + ": " + err.Error()
			}
			if cmp.Equal(old.Data, now.Data) {
				return suffix + " says it was rotated, and was not"
			}
		}
		return ""
	})
	if !cmp.Equal(ca.Data, w.secret(t, tenant+"-ca").Data) {
		t.Error("the authority was replaced, too")
	}
	w.eventually(t, func(context.Context) string {
		if d := w.deployment(t, tenant); d.Generation == d.Status.ObservedGeneration {
			return "the Deployment was not rolled"
		}
		return ""
	})
	w.pods(t, tenant, 2)
	w.tenant(t, tenant, phase.Ready, metav1.ConditionTrue, phase.ReasonDone)
}

func (w *world) rotation(t *testing.T) {
	w.rotates(t, name, []string{"datastore-certificate", "scheduler-kubeconfig"}, nil)
}
