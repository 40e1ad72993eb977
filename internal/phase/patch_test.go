// SPDX-License-Identifier: Apache-2.0

package phase_test

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

func TestPatchFinalizers(t *testing.T) {
	stored := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", Finalizers: []string{"example.com/first"}}}
	c := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).WithObjects(stored).WithStatusSubresource(stored).Build()
	read := func() *appsv1.Deployment {
		d := &appsv1.Deployment{}
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(stored), d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	before := read()
	after := before.DeepCopy()
	after.Finalizers = append(after.Finalizers, "example.com/second")
	after.Status.Replicas = 3
	if err := phase.PatchFinalizers(t.Context(), c, before, after); err != nil {
		t.Fatal(err)
	}
	now := read()
	if want := []string{"example.com/first", "example.com/second"}; !slices.Equal(now.Finalizers, want) || now.Status.Replicas != 0 {
		t.Errorf("stored: finalizers %v, status %+v", now.Finalizers, now.Status)
	}
	if after.Status.Replicas != 3 || after.ResourceVersion != now.ResourceVersion {
		t.Errorf("in hand: status %+v, version %s instead of %s", after.Status, after.ResourceVersion, now.ResourceVersion)
	}

	outdated := before.DeepCopy()
	outdated.Finalizers = nil
	if err := phase.PatchFinalizers(t.Context(), c, before, outdated); !apierrors.IsConflict(err) {
		t.Errorf("a list that somebody else has changed was replaced: %v", err)
	}
	gone := before.DeepCopy()
	gone.Name = "b"
	added := gone.DeepCopy()
	added.Finalizers = nil
	if err := phase.PatchFinalizers(t.Context(), c, gone, added); !apierrors.IsNotFound(err) {
		t.Errorf("an object that is gone: %v", err)
	}
}

func TestNews(t *testing.T) {
	ready := func(status metav1.ConditionStatus, reason, message string) []metav1.Condition {
		return []metav1.Condition{{Type: phase.Ready, Status: status, Reason: reason, Message: message}}
	}
	starting := ready(metav1.ConditionFalse, "Starting", "0 of 2 pods")
	for name, c := range map[string]struct {
		before, after []metav1.Condition
		want          bool
	}{
		"no verdict yet":  {nil, nil, false},
		"first verdict":   {nil, starting, true},
		"another message": {starting, ready(metav1.ConditionFalse, "Starting", "1 of 2 pods"), false},
		"another reason":  {starting, ready(metav1.ConditionFalse, "Broken", ""), true},
		"ready":           {starting, ready(metav1.ConditionTrue, phase.ReasonDone, ""), true},
	} {
		if got := phase.News(c.before, c.after); (got != nil) != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestPatchCurrentStatusTakesNothingBack(t *testing.T) {
	stored := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a"}}
	c := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).WithObjects(stored).WithStatusSubresource(stored).Build()
	old := &appsv1.Deployment{}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(stored), old); err != nil {
		t.Fatal(err)
	}
	newer := old.DeepCopy()
	newer.Status.Replicas = 2
	if err := phase.PatchCurrentStatus(t.Context(), c, old, newer); err != nil {
		t.Fatal(err)
	}
	written := &appsv1.Deployment{}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(stored), written); err != nil || newer.ResourceVersion != written.ResourceVersion {
		t.Errorf("version in hand %s, stored %s (%v)", newer.ResourceVersion, written.ResourceVersion, err)
	}
	stale := old.DeepCopy()
	stale.Status.Replicas = 1
	if err := phase.PatchCurrentStatus(t.Context(), c, old, stale); !apierrors.IsConflict(err) {
		t.Errorf("a status decided from an old copy was written: %v", err)
	}
	if err := phase.PatchCurrentStatus(t.Context(), c, old, old.DeepCopy()); err != nil {
		t.Errorf("an unchanged status is no write: %v", err)
	}
}
