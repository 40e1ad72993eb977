// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

func TestStateOf(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	type change = func(*kamajiv1alpha1.TenantControlPlane)
	until := func(d time.Duration) change {
		return func(tn *kamajiv1alpha1.TenantControlPlane) {
			metav1.SetMetaDataAnnotation(&tn.ObjectMeta, kamajiv1alpha1.AwakeUntilAnnotation, now.Add(d).UTC().Format(time.RFC3339))
		}
	}
	annotated := func(name, value string) change {
		return func(tn *kamajiv1alpha1.TenantControlPlane) { metav1.SetMetaDataAnnotation(&tn.ObjectMeta, name, value) }
	}
	for name, tc := range map[string]struct {
		change change
		want   state
	}{
		"asleep":                        {func(*kamajiv1alpha1.TenantControlPlane) {}, asleep},
		"woken long ago":                {until(-time.Hour), asleep},
		"woken a moment ago":            {until(time.Hour), waking},
		"not up after half of its time": {until(29 * time.Minute), asleep},
		"held awake by somebody":        {until(240 * time.Hour), waking},
		"an annotation that is no time": {annotated(kamajiv1alpha1.AwakeUntilAnnotation, "always"), asleep},
		"replicas were raised": {func(tn *kamajiv1alpha1.TenantControlPlane) {
			tn.Spec.ControlPlane.Deployment.Replicas = ptr.To[int32](1)
		}, waking},
		"paused":        {annotated(kamajiv1alpha1.PausedAnnotation, ""), shut},
		"being deleted": {func(tn *kamajiv1alpha1.TenantControlPlane) { tn.DeletionTimestamp = &metav1.Time{Time: now} }, shut},
	} {
		tn := &kamajiv1alpha1.TenantControlPlane{}
		tn.Spec.ControlPlane.Deployment.Replicas = ptr.To[int32](0)
		tn.Spec.ControlPlane.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{Wake: &kamajiv1alpha1.WakeSpec{}}
		tc.change(tn)
		if got := stateOf(tn, now); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// The ten attempts that clients make by themselves last for longer than an API server takes to start.
func TestRetries(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	tn := &kamajiv1alpha1.TenantControlPlane{}
	tn.Spec.ControlPlane.KamajiGateway = &kamajiv1alpha1.KamajiGatewaySpec{Wake: &kamajiv1alpha1.WakeSpec{For: &metav1.Duration{Duration: time.Minute}}}
	metav1.SetMetaDataAnnotation(&tn.ObjectMeta, kamajiv1alpha1.AwakeUntilAnnotation, now.Add(time.Minute).UTC().Format(time.RFC3339))
	at, longestWait := now, 0
	for range 10 {
		wait := retryAfter(tn, at)
		longestWait = max(longestWait, wait)
		at = at.Add(time.Duration(wait) * time.Second)
	}
	if lasts := at.Sub(now); lasts < 20*time.Second || longestWait > 5 || retryAfter(tn, now) != 1 {
		t.Errorf("ten attempts last for %s, the longest wait is %d s, the first %d s", lasts, longestWait, retryAfter(tn, now))
	}
}

func TestWakesAreWrittenOnce(t *testing.T) {
	var w wakes
	now := time.Now()
	ask := func(uid types.UID) string {
		switch write, busy := w.ask(uid, now); {
		case write:
			return "write"
		case busy:
			return "busy"
		}
		return "written"
	}
	expect := func(when, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	expect("the first", ask("a"), "write")
	expect("the second", ask("a"), "written")
	w.failed("a")
	expect("after a failure", ask("a"), "write")
	for i := range wakesPerSecond*burst - 2 {
		expect("others", ask(types.UID(rune('b'+i))), "write")
	}
	expect("too many", ask("z"), "busy")
	now = now.Add(cacheLag + time.Second)
	expect("later", ask("a"), "write")
	if len(w.asked) != 1 {
		t.Errorf("%d are remembered", len(w.asked))
	}
}
