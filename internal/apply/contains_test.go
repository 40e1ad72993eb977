// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestContains(t *testing.T) {
	object := func(pairs ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i].(string)] = pairs[i+1]
		}
		return m
	}
	tests := map[string]struct {
		have, want any
		result     bool
	}{
		"same":                             {object("a", "1"), object("a", "1"), true},
		"defaulted field is ignored":       {object("a", "1", "b", "x"), object("a", "1"), true},
		"drifted":                          {object("a", "2"), object("a", "1"), false},
		"missing":                          {object(), object("a", "1"), false},
		"false is absent":                  {object(), object("a", false), true},
		"integer and float":                {object("a", float64(3)), object("a", int64(3)), true},
		"empty struct is absent":           {object(), object("a", object()), true},
		"list by position":                 {[]any{"a", "b"}, []any{"a", "b"}, true},
		"list order matters":               {[]any{"b", "a"}, []any{"a", "b"}, false},
		"longer list is drift":             {[]any{"a", "b"}, []any{"a"}, false},
		"injected container is ignored":    {[]any{object("name", "istio"), object("name", "x", "image", "i")}, []any{object("name", "x", "image", "i")}, true},
		"named item drifted":               {[]any{object("name", "x", "image", "j")}, []any{object("name", "x", "image", "i")}, false},
		"named item missing":               {[]any{object("name", "y")}, []any{object("name", "x")}, false},
		"wanted list, have none":           {nil, []any{"a"}, false},
		"empty list is absent":             {nil, []any{}, true},
		"additional owner is ignored":      {[]any{object("uid", "1"), object("uid", "2")}, []any{object("uid", "2")}, true},
		"duplicate names go by position":   {[]any{object("name", "x", "p", "u"), object("name", "x", "p", "t")}, []any{object("name", "x", "p", "u"), object("name", "x", "p", "t")}, true},
		"string where a map was is drift":  {"s", object("a", "1"), false},
		"zero is not the same as a number": {object("replicas", int64(2)), object("replicas", int64(0)), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := contains(test.have, test.want); got != test.result {
				t.Errorf("contains(%v, %v) = %v, want %v", test.have, test.want, got, test.result)
			}
		})
	}
}

func TestIntentDropsWhatNobodyMeant(t *testing.T) {
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "d", ResourceVersion: "7", UID: "u"},
		Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "c"}},
			Volumes:    []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		}}},
		Status: appsv1.DeploymentStatus{Replicas: 3},
	}
	intent, err := Intent(deployment)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"metadata": map[string]any{"name": "d"},
		"spec": map[string]any{
			"template": map[string]any{
				"metadata": map[string]any{},
				"spec": map[string]any{
					"containers": []any{map[string]any{"name": "c"}},
					"volumes":    []any{map[string]any{"name": "v", "emptyDir": map[string]any{}}},
				},
			},
		},
	}
	got := runtime.DeepCopyJSON(intent.Object)
	if !contains(got, want) || !contains(want, got) {
		t.Errorf("intent = %v, want %v", got, want)
	}
}
