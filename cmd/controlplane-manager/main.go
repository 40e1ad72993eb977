// SPDX-License-Identifier: Apache-2.0

// Command controlplane-manager runs the control-plane provider, the engine that hosts tenants, and the control side
// of the gateway.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"os"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	clusterflags "sigs.k8s.io/cluster-api/util/flags"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	controlplanev1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/v1alpha2"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/datastore"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/generator"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/remote"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/etcd"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/mysql"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/nats"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage/postgres"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/tenant"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/upgrade"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/provider"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/webhook"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/version"
)

func main() {
	o := parse()
	if o.version {
		fmt.Println(version.String())
		return
	}
	ctrl.SetLogger(klog.Background())
	if err := run(ctrl.SetupSignalHandler(), o); err != nil {
		klog.ErrorS(err, "controlplane-manager ends")
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	klog.InfoS("Starting controlplane-manager", "version", version.Version, "commit", version.Commit)
	scheme := runtime.NewScheme()
	err := errors.Join(clientgoscheme.AddToScheme(scheme), clusterv1.AddToScheme(scheme), kamajiv1alpha1.AddToScheme(scheme), controlplanev1.AddToScheme(scheme),
		gatewayv1.Install(scheme))
	if err != nil {
		return err
	}
	tlsOptions, metrics, err := clusterflags.GetManagerOptions(o.manager)
	if err != nil {
		return fmt.Errorf("reading the TLS flags: %w", err)
	}
	ctrlmetrics.Registry.MustRegister(version.Collector())
	config := ctrl.GetConfigOrDie()
	config.QPS, config.Burst = o.qps, o.burst
	config.UserAgent = "controlplane-manager/" + version.Version
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Metrics: *metrics, HealthProbeBindAddress: o.healthAddress, Cache: caches(o),
		LeaderElection: o.leaderElect, LeaderElectionID: "controlplane-manager.kamaji.clastix.io", LeaderElectionNamespace: o.podNamespace,
		LeaderElectionReleaseOnCancel: true, LeaseDuration: &o.leaseDuration, RenewDeadline: &o.renewDeadline, RetryPeriod: &o.retryPeriod,
		WebhookServer: ctrlwebhook.NewServer(ctrlwebhook.Options{Port: o.webhookPort, CertDir: o.webhookCerts, TLSOpts: tlsOptions}),
	})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	if err := setup(ctx, mgr, o, tlsOptions); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// caches hold of common kinds only what is ours: all else of a management cluster is none of our business.
func caches(o options) cache.Options {
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{kamajiv1alpha1.ProjectLabel: kamajiv1alpha1.ProjectLabelValue})}
	// The gateway's own lie beside the manager and carry the gateway's label instead.
	shared := cache.ByObject{Namespaces: map[string]cache.Config{cache.AllNamespaces: {LabelSelector: ours.Label}, o.podNamespace: {}}}
	beside := ours
	options := cache.Options{SyncPeriod: &o.syncPeriod, DefaultTransform: cache.TransformStripManagedFields()}
	if o.namespace != "" {
		options.DefaultNamespaces = map[string]cache.Config{o.namespace: {}}
		shared.Namespaces = map[string]cache.Config{o.namespace: {LabelSelector: ours.Label}, o.podNamespace: {}}
		// Secrets of DataStores and endpoints of the activator are in the manager's own.
		beside.Namespaces = map[string]cache.Config{o.namespace: {}, o.podNamespace: {}}
	}
	options.ByObject = map[client.Object]cache.ByObject{
		&corev1.Secret{}: beside, &corev1.Service{}: ours, &corev1.Pod{}: ours, &discoveryv1.EndpointSlice{}: beside, &networkingv1.Ingress{}: ours, &networkingv1.NetworkPolicy{}: ours, &corev1.ConfigMap{}: shared,
		&policyv1.PodDisruptionBudget{}: shared, &corev1.Node{}: {Transform: tenant.SlimNode},
	}
	maps.Copy(options.ByObject, gateway.CacheByObject(o.podNamespace))
	return options
}

// startLimit is how many control planes may start at once. A manager of one namespace may not see nodes.
func startLimit(ctx context.Context, mgr ctrl.Manager, o options) (func() int, error) {
	switch {
	case o.starts > 0:
		return func() int { return o.starts }, nil
	case o.namespace != "":
		return func() int { return 8 }, nil
	}
	return tenant.StartsByCPU(ctx, mgr.GetCache())
}

func setup(ctx context.Context, mgr ctrl.Manager, o options, tlsOptions []func(*tls.Config)) error {
	if err := storage.IndexUsers(ctx, mgr.GetFieldIndexer(), o.defaultDataStore); err != nil {
		return fmt.Errorf("indexing the users of DataStores: %w", err)
	}
	stores := storage.NewPool(storage.Openers{etcd.Name: etcd.Open, postgres.Name: postgres.Open, mysql.Name: mysql.Open, nats.Name: nats.Open})
	if err := mgr.Add(stores); err != nil {
		return fmt.Errorf("adding the pool of datastore connections: %w", err)
	}
	steps, err := upgrade.ParseSteps(o.upgradeSteps)
	if err != nil {
		return fmt.Errorf("--upgrade-steps: %w", err)
	}
	starts, err := startLimit(ctx, mgr, o)
	if err != nil {
		return err
	}
	policies, err := policies(ctx, mgr, o)
	if err != nil {
		return err
	}
	recorder := mgr.GetEventRecorder("kamaji")
	err = errors.Join(
		(&datastore.Reconciler{
			Client: mgr.GetClient(), Secrets: mgr.GetAPIReader(), Pool: stores, Recorder: recorder, Concurrency: o.dataStores,
		}).SetupWithManager(ctx, mgr, o.defaultDataStore),
		(&tenant.Reconciler{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Secrets: mgr.GetAPIReader(), Storage: stores, Remote: &remote.Pool{},
			Recorder: recorder, DefaultDataStore: o.defaultDataStore, PriorityClass: o.priorityClass, Steps: steps, Starts: starts,
			Policies: policies, KineImage: o.kineImage, Concurrency: o.tenants,
		}).SetupWithManager(ctx, mgr),
		(&generator.Reconciler{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: recorder, Namespaced: o.namespace != "", Concurrency: o.tenants,
		}).SetupWithManager(ctx, mgr),
		(&provider.Reconciler{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("kamajicontrolplane"), Probe: provider.ProbeAPI,
		}).SetupWithManager(mgr, controller.Options{MaxConcurrentReconciles: o.controlPlanes}, o.watchFilter),
		gateway.SetupWithManager(ctx, mgr, gateway.Options{Namespace: o.podNamespace, Image: o.gatewayImage, XDSAddress: o.xdsAddress}),
	)
	if err != nil {
		return fmt.Errorf("adding reconcilers: %w", err)
	}
	if err := serveRoutes(ctx, mgr, o, tlsOptions); err != nil {
		return err
	}
	ready := healthz.Ping
	if o.webhooks {
		if err := webhook.Setup(mgr, webhook.Options{DefaultDataStore: o.defaultDataStore}); err != nil {
			return fmt.Errorf("adding webhooks: %w", err)
		}
		ready = mgr.GetWebhookServer().StartedChecker()
	}
	return errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("webhooks", ready))
}
