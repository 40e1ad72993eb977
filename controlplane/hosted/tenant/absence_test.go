// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func TestAbsenceIsAskedForOnce(t *testing.T) {
	asked := 0
	c := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).
		WithObjects(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "there"}}).
		WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, inner client.WithWatch, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
				asked++
				return inner.Get(ctx, key, into, options...)
			},
		}).Build()
	a := &absence{Reader: c}
	for _, step := range []struct {
		name    string
		object  client.Object
		missing bool
		asked   int
	}{
		{"there", &corev1.Secret{}, false, 1},
		{"there", &corev1.Secret{}, false, 2}, // what is there may change
		{"gone", &corev1.Secret{}, true, 3},
		{"gone", &corev1.Secret{}, true, 3},
		{"gone", &corev1.ConfigMap{}, true, 4}, // of another kind
	} {
		err := a.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: step.name}, step.object)
		if apierrors.IsNotFound(err) != step.missing || !step.missing && err != nil || asked != step.asked {
			t.Errorf("%T %s: %v, asked %d times, want %d", step.object, step.name, err, asked, step.asked)
		}
	}
}
