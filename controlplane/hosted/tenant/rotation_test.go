// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

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
	for _, suffix := range []string{"ca", "front-proxy-ca-certificate", "sa-certificate"} {
		before := w.secret(t, name+"-"+suffix)
		w.annotate(t, before.DeepCopy(), kamajiv1alpha1.RotateAnnotation, "")
		w.eventually(t, func(ctx context.Context) string { return w.warned(ctx, "Secret "+before.Name+" is ignored") })
		after := w.secret(t, before.Name)
		if value, ok := after.Annotations[kamajiv1alpha1.RotateAnnotation]; !ok || value != "" {
			t.Errorf("the annotation of %s became %q, %v", before.Name, value, ok)
		}
		if diff := cmp.Diff(before.Data, after.Data); diff != "" {
			t.Errorf("%s was replaced", before.Name)
		}
	}
	w.rotates(t, name, []string{"datastore-certificate", "scheduler-kubeconfig"}, nil)
}

// warned looks for an Event that refuses a rotation.
func (w *world) warned(ctx context.Context, text string) string {
	list := &eventsv1.EventList{}
	if err := w.client.List(ctx, list, client.InNamespace(system)); err != nil {
		return err.Error()
	}
	var notes []string
	for _, e := range list.Items {
		if e.Reason == "RotationRefused" && e.Type == corev1.EventTypeWarning && strings.Contains(e.Note, text) {
			return ""
		}
		notes = append(notes, e.Reason)
	}
	return fmt.Sprintf("no warning with %q among %v", text, notes)
}
