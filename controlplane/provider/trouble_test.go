// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
)

// rejecting is a cluster whose admission refuses every TenantControlPlane that is applied.
type rejecting struct{ client.Client }

func (rejecting) Apply(context.Context, runtime.ApplyConfiguration, ...client.ApplyOption) error {
	return apierrors.NewForbidden(schema.GroupResource{Resource: "tenantcontrolplanes"}, "demo", errors.New("no more than one replica"))
}

// rejectedChangeKeepsWhatRuns: a spec that can't be applied says so, and nothing about what goes on running gets lost.
func rejectedChangeKeepsWhatRuns(w *world) {
	w.probe = nil
	w.reconcile()
	w.reconcile()
	w.engine("demo.k8s.example.com:6443")
	w.reconcile()
	w.wantCondition(clusterv1.AvailableCondition, "True", clusterv1.AvailableReason)

	kcp := w.kcp()
	kcp.Spec.Replicas = ptr.To[int32](3)
	w.must(w.Update(w.Context(), kcp))
	w.reconciler.Client = rejecting{w.reconciler.Client}
	w.reconcile()
	w.wantCondition(controlplanev1.TenantControlPlaneAppliedCondition, "False", "TenantControlPlaneRejected")
	w.wantCondition(clusterv1.AvailableCondition, "True", clusterv1.AvailableReason)
	w.wantCondition(clusterv1.ScalingUpCondition, "True", clusterv1.ScalingUpReason)
	status := w.kcp().Status
	if status.Version != "v1.36.3" || len(status.Versions) != 1 || ptr.Deref(status.ReadyReplicas, 0) != 1 {
		w.Errorf("version %q, versions %v, %d ready replicas; want those of the pod that runs", status.Version, status.Versions, ptr.Deref(status.ReadyReplicas, 0))
	}
}

// lagging is a cache that knows no TenantControlPlane yet.
type lagging struct{ client.Client }

func (c lagging) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if _, ok := obj.(*kamajiv1alpha1.TenantControlPlane); ok {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "tenantcontrolplanes"}, key.Name)
	}
	return c.Client.Get(ctx, key, obj, opts...)
}

// deletionDoubtsTheCache: a tenant made a moment ago is not in the cache and is there all the same.
func deletionDoubtsTheCache(w *world) {
	w.reconcile()
	w.reconcile()
	tenant := &kamajiv1alpha1.TenantControlPlane{}
	w.must(w.Get(w.Context(), w.key, tenant))
	tenant.Finalizers = []string{kamajiv1alpha1.DataStoreCleanupFinalizer}
	w.must(w.Update(w.Context(), tenant))

	w.must(w.Delete(w.Context(), w.kcp()))
	w.reconciler.Client = lagging{w.reconciler.Client}
	w.reconcile()
	w.wantCondition(clusterv1.DeletingCondition, "True", clusterv1.DeletingReason)
	w.must(w.Get(w.Context(), w.key, tenant))
	if tenant.DeletionTimestamp.IsZero() {
		w.Error("the TenantControlPlane is not being deleted")
	}
	tenant.Finalizers = nil
	w.must(w.Update(w.Context(), tenant))
}

func TestProbesGetRarer(t *testing.T) {
	for waited, want := range map[time.Duration]time.Duration{
		-time.Second:     firstProbes, // clocks differ
		0:                firstProbes,
		5 * time.Second:  firstProbes,
		30 * time.Second: 600 * time.Millisecond,
		5 * time.Minute:  6 * time.Second,
		24 * time.Hour:   lastProbes,
	} {
		if got := untilNextProbe(waited); got != want {
			t.Errorf("after %s: %s, want %s", waited, got, want)
		}
	}
}

func TestProbesBeginWithThePods(t *testing.T) {
	made, ready := time.Unix(1000, 0), time.Unix(2000, 0)
	kcp := &controlplanev1.KamajiControlPlane{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(made)}}
	tenant := &kamajiv1alpha1.TenantControlPlane{}
	if got := began(kcp, tenant); !got.Equal(made) {
		t.Errorf("without a word of the engine: %s, want %s", got, made)
	}
	tenant.Status.Conditions = []metav1.Condition{{
		Type: kamajiv1alpha1.WorkloadReadyCondition, Status: metav1.ConditionTrue, LastTransitionTime: metav1.NewTime(ready),
	}}
	if got := began(kcp, tenant); !got.Equal(ready) {
		t.Errorf("with ready pods: %s, want %s", got, ready)
	}
	tenant.Status.Conditions[0].Status = metav1.ConditionFalse
	if got := began(kcp, tenant); !got.Equal(made) {
		t.Errorf("with pods that are not ready: %s, want %s", got, made)
	}
}

// Two failures of one kind are one message: each change of a condition is a write, which brings the object back.
func TestCauseIsTheSameEachTime(t *testing.T) {
	failure := func(port int) error {
		return &url.Error{Op: "Get", URL: "https://192.0.2.1:6443/api", Err: fmt.Errorf("reading: %w", &net.OpError{
			Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: port},
			Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 6443}, Err: errors.New("connection reset by peer"),
		})}
	}
	first, second := cause(failure(41000)).Error(), cause(failure(41001)).Error()
	if want := "read tcp 192.0.2.1:6443: connection reset by peer"; first != want || second != want {
		t.Errorf("%q, then %q; want %q", first, second, want)
	}
	if other := errors.New("unauthorized"); !errors.Is(cause(other), other) {
		t.Error("an error of another kind was changed")
	}
}
