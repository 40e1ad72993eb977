// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/webhook"
	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	infrawebhook "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/webhook"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/testenv"
)

// TestAdmission sends every case to an API server with the CRDs and the webhooks of an installation.
func TestAdmission(t *testing.T) {
	c := installed(t)
	t.Run("published manifests", func(t *testing.T) { published(t, c) })
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		for path, f := range load(t, kind) {
			t.Run(path, func(t *testing.T) {
				base, err := object(f.Base)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Create(t.Context(), base, client.DryRunAll); err != nil {
					t.Fatalf("the base is refused: %v", err)
				}
				for i, tc := range f.Cases {
					name := fmt.Sprintf("%d %s", i, tc.Path)
					if tc.Accept != nil {
						t.Run(name+" accepted", func(t *testing.T) { tc.try(t, c, f.Base, i, tc.Accept, "") })
					}
					if tc.Reject != nil {
						t.Run(name+" refused", func(t *testing.T) { tc.try(t, c, f.Base, i, tc.Reject, tc.Want) })
					}
				}
			})
		}
	}
}

func (tc fieldCase) try(t *testing.T, c client.Client, base map[string]any, number int, value any, want string) {
	t.Helper()
	stored, err := object(base, tc.Was)
	if err != nil {
		t.Fatal(err)
	}
	o := stored
	send := func() error { return c.Create(t.Context(), o, client.DryRunAll) }
	if tc.Was != nil {
		o.SetName(o.GetName() + "-" + strconv.Itoa(number))
		status, hasStatus := o.Object["status"]
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatalf("the stored object is refused: %v", err)
		}
		defer func() { _ = c.Delete(context.WithoutCancel(t.Context()), stored) }()
		if hasStatus {
			o.Object["status"] = status
			if err := c.Status().Update(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
		o = o.DeepCopy()
		send = func() error { return c.Update(t.Context(), o, client.DryRunAll) }
	}
	if err := change(o, tc.With, map[string]any{tc.Path: value}); err != nil {
		t.Fatal(err)
	}
	switch err := send(); {
	case want == "" && err != nil:
		t.Errorf("%v is refused: %v", value, err)
	case want != "" && err == nil:
		t.Errorf("%v is accepted, want an error with %q", value, want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("%v is refused without %q: %v", value, want, err)
	}
}

// installed is a client of an API server with our CRDs, those of the Gateway API, and the webhooks.
func installed(t *testing.T) client.Client {
	t.Helper()
	ctrl.SetLogger(klog.Background())
	scheme := runtime.NewScheme()
	err := errors.Join(clientgoscheme.AddToScheme(scheme), kamajiv1alpha1.AddToScheme(scheme), controlplanev1.AddToScheme(scheme), infrav1.AddToScheme(scheme), gatewayv1.Install(scheme))
	if err != nil {
		t.Fatal(err)
	}
	in := func(path string) string { return filepath.Join(testenv.Root(), path) }
	env := &envtest.Environment{
		BinaryAssetsDirectory: testenv.Assets(), Scheme: scheme, ErrorIfCRDPathMissing: true, ControlPlaneStartTimeout: time.Minute,
		CRDDirectoryPaths: []string{in("config/controlplane/crd/bases"), in("config/infrastructure/crd/bases"), testenv.GatewayAPICRDs(t)},
		WebhookInstallOptions: envtest.WebhookInstallOptions{
			Paths:              []string{in("config/controlplane/webhook/manifests.yaml")},
			ValidatingWebhooks: []*admissionregistrationv1.ValidatingWebhookConfiguration{webhooks(t, in("config/infrastructure/webhook/manifests.yaml"), "infrastructure")},
		},
	}
	config, err := env.Start()
	if err != nil {
		t.Fatalf("starting the test API server: %v", errors.Join(err, env.Stop()))
	}
	hooks := env.WebhookInstallOptions
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Metrics: server.Options{BindAddress: "0"},
		WebhookServer: ctrlwebhook.NewServer(ctrlwebhook.Options{Host: hooks.LocalServingHost, Port: hooks.LocalServingPort, CertDir: hooks.LocalServingCertDir}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(webhook.Setup(mgr, webhook.Options{DefaultDataStore: "default"}), infrawebhook.SetupWithManager(mgr)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-stopped, env.Stop()); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	address := net.JoinHostPort(hooks.LocalServingHost, strconv.Itoa(hooks.LocalServingPort))
	err = wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		// The certificate was made for this run; who answers is not in question here.
		connection, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // see above
		if err != nil {
			return false, nil
		}
		return true, connection.Close()
	})
	if err != nil {
		t.Fatalf("the webhooks don't answer: %v", err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "tenants"}}); err != nil {
		t.Fatal(err)
	}
	return c
}

// webhooks reads a configuration and names it; in both halves it has the name that kustomize puts a prefix to.
func webhooks(t *testing.T, path, name string) *admissionregistrationv1.ValidatingWebhookConfiguration {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if err := yaml.Unmarshal(data, out); err != nil {
		t.Fatal(err)
	}
	out.Name = name
	return out
}
