// SPDX-License-Identifier: Apache-2.0

package phase_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

func TestRun(t *testing.T) {
	broken := errors.New("connection refused")
	tests := map[string]struct {
		outcome error
		before  []metav1.Condition
		want    map[string]string
		result  ctrl.Result
		failure error
	}{
		"all done": {
			want: map[string]string{"A": "True/Done", "B": "True/Done", "C": "True/Done", "Ready": "True/Done"},
		},
		"waiting": {
			outcome: phase.Wait("NoPods", "0 of 1 pods are ready"),
			want:    map[string]string{"A": "True/Done", "B": "False/NoPods", "C": "Unknown/WaitingForEarlierStep", "Ready": "False/NoPods"},
		},
		"waiting for a time": {
			outcome: phase.WaitFor(time.Second, "NotAnswering", "the API does not answer yet"),
			want:    map[string]string{"A": "True/Done", "B": "False/NotAnswering", "C": "Unknown/WaitingForEarlierStep", "Ready": "False/NotAnswering"},
			result:  ctrl.Result{RequeueAfter: time.Second},
		},
		"fatal is not retried": {
			outcome: phase.Fatal("BadVersion", "spec.version %q is no version", "x"),
			want:    map[string]string{"A": "True/Done", "B": "False/BadVersion", "C": "Unknown/WaitingForEarlierStep", "Ready": "False/BadVersion"},
		},
		"error is retried": {
			outcome: broken,
			want:    map[string]string{"A": "True/Done", "B": "False/Error", "C": "Unknown/WaitingForEarlierStep", "Ready": "False/Error"},
			failure: broken,
		},
		"a conflict says nothing": {
			outcome: fmt.Errorf("patching finalizers: %w", apierrors.NewConflict(schema.GroupResource{Resource: "things"}, "x", broken)),
			before:  []metav1.Condition{{Type: "B", Status: metav1.ConditionTrue, Reason: "Done"}},
			want:    map[string]string{"A": "True/Done", "B": "True/Done"},
			result:  ctrl.Result{RequeueAfter: 10 * time.Millisecond},
		},
		"what was done stays done": {
			outcome: broken,
			before:  []metav1.Condition{{Type: "C", Status: metav1.ConditionTrue, Reason: "Done"}},
			want:    map[string]string{"A": "True/Done", "B": "False/Error", "C": "True/Done", "Ready": "False/Error"},
			failure: broken,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			done := func(context.Context, struct{}) error { return nil }
			steps := []phase.Step[struct{}]{
				{Condition: "A", Run: done},
				{Condition: "B", Run: func(context.Context, struct{}) error { return test.outcome }},
				{Condition: "C", Run: done},
			}
			conditions := test.before
			result, err := phase.Result(phase.Run(t.Context(), &conditions, 1, steps, struct{}{}))
			if !errors.Is(err, test.failure) || result != test.result {
				t.Errorf("result = %v, %v; want %v, %v", result, err, test.result, test.failure)
			}
			got := map[string]string{}
			for _, c := range conditions {
				got[c.Type] = string(c.Status) + "/" + c.Reason
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
		})
	}
}

// A message that is too long would keep the whole status from being stored, and so hide itself.
func TestMessagesFitConditions(t *testing.T) {
	const most = 32768
	for name, err := range map[string]error{
		"error": errors.New(strings.Repeat("é", most)), "wait": phase.Wait("NoPods", "%s", strings.Repeat("x", 2*most)),
	} {
		var conditions []metav1.Condition
		step := phase.Step[struct{}]{Condition: "A", Run: func(context.Context, struct{}) error { return err }}
		_ = phase.Run(t.Context(), &conditions, 1, []phase.Step[struct{}]{step}, struct{}{})
		for _, c := range conditions {
			if len(c.Message) > most || !utf8.ValidString(c.Message) {
				t.Errorf("%s: condition %s has %d bytes", name, c.Type, len(c.Message))
			}
		}
	}
}
