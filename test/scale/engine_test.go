// SPDX-License-Identifier: Apache-2.0

//go:build scale

package scale

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	goruntime "runtime"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/datastore"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/generator"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/remote"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/etcd"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/tenant"
)

// The environment of the process that is the engine: with these set the test binary runs nothing else.
const (
	engineKubeconfig = "SCALE_ENGINE_KUBECONFIG"
	engineTenants    = "SCALE_ENGINE_TENANTS"
	engineMetrics    = "SCALE_ENGINE_METRICS"
	engineProfiles   = "SCALE_ENGINE_PROFILES"
)

// resync is the manager's default of --sync-period.
const resync = 10 * time.Minute

// keepProfiles in the environment of the test names the folder for profiles of the engine.
const keepProfiles = "SCALE_PROFILES"

func TestMain(m *testing.M) {
	if path := os.Getenv(engineKubeconfig); path != "" {
		if err := engine(ctrl.SetupSignalHandler(), path); err != nil {
			fmt.Fprintln(os.Stderr, "engine:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), kamajiv1alpha1.AddToScheme(scheme), controlplanev1.AddToScheme(scheme), gatewayv1.Install(scheme)); err != nil {
		panic(err)
	}
	return scheme
}

// engine is what the control-plane manager runs for TenantControlPlanes, with its settings, in a process of its own so
// that its memory and CPU can be told from the rest.
func engine(ctx context.Context, kubeconfig string) error {
	ctrl.SetLogger(klog.Background())
	if os.Getenv(keepProfiles) != "" {
		goruntime.MemProfileRate = 8 << 10
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{kamajiv1alpha1.ProjectLabel: kamajiv1alpha1.ProjectLabelValue})}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: newScheme(), Metrics: server.Options{BindAddress: os.Getenv(engineMetrics)}, PprofBindAddress: os.Getenv(engineProfiles),
		Cache: cache.Options{SyncPeriod: ptr.To(resync), DefaultTransform: cache.TransformStripManagedFields(), ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: ours, &corev1.Service{}: ours, &corev1.Pod{}: ours, &corev1.ConfigMap{}: ours, &networkingv1.Ingress{}: ours,
			&policyv1.PodDisruptionBudget{}: ours,
		}},
	})
	if err != nil {
		return err
	}
	if err := storage.IndexUsers(ctx, mgr.GetFieldIndexer(), "default"); err != nil {
		return err
	}
	pool := storage.NewPool(storage.Openers{etcd.Name: etcd.Open})
	recorder := mgr.GetEventRecorder("kamaji")
	stores := &datastore.Reconciler{Client: mgr.GetClient(), Secrets: mgr.GetAPIReader(), Pool: pool, Recorder: recorder}
	tenants := &tenant.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Secrets: mgr.GetAPIReader(), Storage: pool,
		Remote: &remote.Pool{Dial: dialer(os.Getenv(engineTenants))}, Recorder: recorder, DefaultDataStore: "default",
		Starts: func() int { return starts },
	}
	kubeconfigs := &generator.Reconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: recorder}
	err = errors.Join(mgr.Add(pool), stores.SetupWithManager(ctx, mgr, "default"), tenants.SetupWithManager(ctx, mgr), kubeconfigs.SetupWithManager(ctx, mgr),
		gateway.SetupWithManager(ctx, mgr, gateway.Options{Namespace: "kamaji-system", Image: "unused", XDSAddress: "unused:18000"}))
	if err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// dialer connects to the in-memory API servers and says which one is wanted.
func dialer(server string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, server)
		if err != nil {
			return nil, err
		}
		if _, err := fmt.Fprintln(conn, address); err != nil {
			conn.Close()
			return nil, err
		}
		return conn, nil
	}
}
