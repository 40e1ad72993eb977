// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// pod makes a running pod of a tenant, with the ReplicaSet between it and the Deployment. It is on a node, so that it stays
// until stopped is called, as long as a kubelet takes to end its processes.
func (w *world) pod(t *testing.T, namespace, tenant string) *corev1.Pod {
	t.Helper()
	deployment := &appsv1.Deployment{}
	if err := w.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: tenant}, deployment); err != nil {
		t.Fatal(err)
	}
	owned := func(owner client.Object, kind string) metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Namespace: namespace, Name: owner.GetName() + "-5d4f", Labels: deployment.Spec.Template.Labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, appsv1.SchemeGroupVersion.WithKind(kind))},
		}
	}
	rs := &appsv1.ReplicaSet{
		ObjectMeta: owned(deployment, "Deployment"),
		Spec:       appsv1.ReplicaSetSpec{Selector: deployment.Spec.Selector, Template: deployment.Spec.Template},
	}
	w.create(t, rs)
	out := &corev1.Pod{
		ObjectMeta: owned(rs, "ReplicaSet"),
		Spec: corev1.PodSpec{
			NodeName: "node", TerminationGracePeriodSeconds: ptr.To[int64](45), AutomountServiceAccountToken: ptr.To(false),
			Containers: []corev1.Container{{Name: "kube-apiserver", Image: "kube-apiserver"}},
		},
	}
	// There is no controller that makes the account which admission asks for.
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "default"}}
	if err := w.client.Create(t.Context(), account); client.IgnoreAlreadyExists(err) != nil {
		t.Fatal(err)
	}
	w.create(t, out)
	return out
}

// hurried waits until the engine has told a pod to stop within a second.
func (w *world) hurried(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	w.eventually(t, func(ctx context.Context) string {
		if err := w.client.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
			return err.Error()
		}
		if have := ptr.Deref(pod.DeletionGracePeriodSeconds, -1); have != 1 {
			return fmt.Sprintf("the pod has %d s to stop", have)
		}
		return ""
	})
}

// ended checks that nothing replaces a pod that was stopped, and does what the garbage collector does when it is gone.
func (w *world) ended(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	rs := &appsv1.ReplicaSet{}
	key := client.ObjectKey{Namespace: pod.Namespace, Name: metav1.GetControllerOf(pod).Name}
	if err := w.client.Get(t.Context(), key, rs); err != nil {
		t.Fatal(err)
	}
	if rs.DeletionTimestamp.IsZero() {
		t.Error("the ReplicaSet would replace the pod")
	}
	rs.Finalizers = nil
	if err := w.client.Update(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
}

// stopped is what the kubelet reports when the processes of a pod have ended. Its ReplicaSet is of no use then.
func (w *world) stopped(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	if err := w.client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: metav1.GetControllerOf(pod).Name}}
	if err := w.client.Delete(t.Context(), rs); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
}

// namespace deletes a tenant as part of its namespace, whose objects go in any
// order; here the tenant itself is the last.
func (w *world) namespace(t *testing.T) {
	doomed := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "doomed"}}
	tn := manifest(t, "customer1.yaml")
	tn.Namespace = doomed.Name
	w.create(t, doomed, tn)
	condition := func(kind, reason string) {
		t.Helper()
		w.eventually(t, func(ctx context.Context) string {
			if err := w.client.Get(ctx, client.ObjectKeyFromObject(tn), tn); err != nil {
				return err.Error()
			}
			if c := meta.FindStatusCondition(tn.Status.Conditions, kind); c == nil || c.Reason != reason {
				return fmt.Sprintf("want %s %s, have %+v", kind, reason, tn.Status.Conditions)
			}
			return ""
		})
	}
	condition(kamajiv1alpha1.WorkloadReadyCondition, kamajiv1alpha1.RolloutInProgressReason)
	data := "/" + tn.Status.Storage.Setup.Schema + "/"
	root := w.etcd.Client(t, w.etcd.Config.Certificate, w.etcd.Config.Key)
	if _, err := root.Put(t.Context(), data+"registry/something", "1"); err != nil {
		t.Fatal(err)
	}
	pod := w.pod(t, doomed.Name, tn.Name)
	if err := w.client.Delete(t.Context(), doomed); err != nil {
		t.Fatal(err)
	}
	// What the namespace controller does.
	for _, kind := range []client.Object{&appsv1.Deployment{}, &corev1.Secret{}, &corev1.ConfigMap{}} {
		if err := w.client.DeleteAllOf(t.Context(), kind, client.InNamespace(doomed.Name)); err != nil {
			t.Fatal(err)
		}
	}
	condition(kamajiv1alpha1.WorkloadReadyCondition, kamajiv1alpha1.NamespaceTerminatingReason)
	if err := w.client.Delete(t.Context(), tn); err != nil {
		t.Fatal(err)
	}
	// The Deployment is gone, so that the pod is the garbage collector's.
	if err := w.client.Delete(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	w.hurried(t, pod)
	condition(kamajiv1alpha1.DeletingCondition, "StoppingPods")
	if w.etcd.Keys(data) == 0 {
		t.Error("the data is gone before the pods")
	}
	w.stopped(t, pod)
	w.gone(t, tn)
	if n := w.etcd.Keys(data); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}
