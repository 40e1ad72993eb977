// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"context"
	"errors"
	"net"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/remote"
)

// frugal is a client that complains about writes, and about lists of more than one tenant's objects.
type frugal struct {
	client.Client
	t *testing.T
}

func (f frugal) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	var asked client.ListOptions
	asked.ApplyOptions(options)
	if asked.Namespace == "" || asked.LabelSelector == nil && asked.FieldSelector == nil {
		f.t.Errorf("a steady pass lists %T of all tenants", list)
	}
	return f.Client.List(ctx, list, options...)
}

func (f frugal) refuse(what string, o any) error {
	f.t.Errorf("a steady pass %s %T", what, o)
	return errors.New("refused")
}

func (f frugal) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	return f.refuse("creates", o)
}

func (f frugal) Update(_ context.Context, o client.Object, _ ...client.UpdateOption) error {
	return f.refuse("updates", o)
}

func (f frugal) Patch(_ context.Context, o client.Object, _ client.Patch, _ ...client.PatchOption) error {
	return f.refuse("patches", o)
}

func (f frugal) Delete(_ context.Context, o client.Object, _ ...client.DeleteOption) error {
	return f.refuse("deletes", o)
}

func (f frugal) Apply(_ context.Context, o runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
	return f.refuse("applies", o)
}

func (f frugal) Status() client.SubResourceWriter { return frugalStatus{f} }

type frugalStatus struct{ frugal }

func (f frugalStatus) Create(_ context.Context, o, _ client.Object, _ ...client.SubResourceCreateOption) error {
	return f.refuse("creates the status of", o)
}

func (f frugalStatus) Update(_ context.Context, o client.Object, _ ...client.SubResourceUpdateOption) error {
	return f.refuse("updates the status of", o)
}

func (f frugalStatus) Patch(_ context.Context, o client.Object, _ client.Patch, _ ...client.SubResourcePatchOption) error {
	return f.refuse("patches the status of", o)
}

func (f frugalStatus) Apply(_ context.Context, o runtime.ApplyConfiguration, _ ...client.SubResourceApplyOption) error {
	return f.refuse("applies the status of", o)
}

// live is a reader that nobody should use.
type live struct{ t *testing.T }

func (l live) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	l.t.Errorf("a steady pass reads %T %s from the API server", o, key)
	return errors.New("refused")
}

func (l live) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	l.t.Errorf("a steady pass lists %T from the API server", list)
	return errors.New("refused")
}

// steady is a pass over a tenant that a manager has seen before: it asks neither API server, nor the datastore, for anything.
func (w *world) steady(t *testing.T) {
	r := w.engine()
	request := ctrl.Request{NamespacedName: key}
	if _, err := r.Reconcile(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	r.Client, r.Live, r.Secrets = frugal{r.Client, t}, live{t}, live{t}
	r.Remote = &remote.Pool{Dial: func(context.Context, string, string) (net.Conn, error) {
		t.Error("a steady pass connects to the tenant")
		return nil, errors.New("refused")
	}}
	before := w.etcd.Revision(t)
	if _, err := r.Reconcile(t.Context(), request); err != nil {
		t.Error(err)
	}
	if now := w.etcd.Revision(t); now != before {
		t.Errorf("a steady pass changes users and roles of the datastore: revision %d after %d", now, before)
	}
}

// kept are the names and keys of Kamaji's Secrets, which scripts, operators and monitoring read.
func (w *world) kept(t *testing.T) {
	for suffix, keys := range map[string][]string{
		"ca":                                    {"ca.crt", "ca.key", "tls.crt", "tls.key"},
		"front-proxy-ca-certificate":            {"front-proxy-ca.crt", "front-proxy-ca.key"},
		"sa-certificate":                        {"sa.pub", "sa.key"},
		"api-server-certificate":                {"apiserver.crt", "apiserver.key"},
		"api-server-kubelet-client-certificate": {"apiserver-kubelet-client.crt", "apiserver-kubelet-client.key"},
		"front-proxy-client-certificate":        {"front-proxy-client.crt", "front-proxy-client.key"},
		"admin-kubeconfig":                      {"admin.conf", "admin.svc", "super-admin.conf", "super-admin.svc"},
		"controller-manager-kubeconfig":         {"controller-manager.conf"},
		"scheduler-kubeconfig":                  {"scheduler.conf"},
		"datastore-config":                      {"DB_CONNECTION_STRING", "DB_SCHEMA", "DB_USER", "DB_PASSWORD"},
		"datastore-certificate":                 {"ca.crt", "server.crt", "server.key"},
	} {
		secret := w.secret(t, name+"-"+suffix)
		for _, key := range keys {
			if _, ok := secret.Data[key]; !ok {
				t.Errorf("Secret %s has no key %s", secret.Name, key)
			}
		}
		if secret.Annotations[kamajiv1alpha1.ChecksumAnnotation] == "" || secret.Labels["kamaji.clastix.io/project"] != "kamaji" ||
			secret.Labels["kamaji.clastix.io/name"] != name || secret.Labels["kamaji.clastix.io/component"] != suffix {
			t.Errorf("Secret %s has labels %v, annotations %v", secret.Name, secret.Labels, secret.Annotations)
		}
		switch cycle := secret.Labels["kamaji.clastix.io/certificate_lifecycle_controller"]; suffix {
		case "admin-kubeconfig", "controller-manager-kubeconfig", "scheduler-kubeconfig":
			if cycle != "kubeconfig" {
				t.Errorf("Secret %s: life cycle %q", secret.Name, cycle)
			}
		case "sa-certificate", "datastore-config":
		default:
			if cycle != "x509" {
				t.Errorf("Secret %s: life cycle %q", secret.Name, cycle)
			}
		}
	}
	template := w.deployment(t, name).Spec.Template
	for _, label := range []string{
		"api-server-certificate", "api-server-kubelet-client-certificate", "ca", "controller-manager-kubeconfig", "front-proxy-ca-certificate",
		"front-proxy-client-certificate", "service-account", "scheduler-kubeconfig", "datastore",
	} {
		if template.Labels["component.kamaji.clastix.io/"+label] == "" {
			t.Errorf("pods have no label component.kamaji.clastix.io/%s", label)
		}
	}
	tn := &kamajiv1alpha1.TenantControlPlane{}
	if err := w.client.Get(t.Context(), key, tn); err != nil {
		t.Fatal(err)
	}
	record := &corev1.ConfigMap{}
	if err := w.client.Get(t.Context(), client.ObjectKey{Namespace: system, Name: tn.Status.KubeadmConfig.ConfigmapName}, record); err != nil || record.Data["ClusterConfiguration"] == "" {
		t.Errorf("kubeadm's document: %v, %v", record.Data, err)
	}
	if d := w.deployment(t, name); d.Generation != 1 {
		t.Errorf("the Deployment was written %d times before it was ready", d.Generation)
	}
}
