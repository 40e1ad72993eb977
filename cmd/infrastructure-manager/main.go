// SPDX-License-Identifier: Apache-2.0

// Command infrastructure-manager runs the controllers and webhooks of the infrastructure provider rack.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/component-base/logs"
	logsv1 "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/flags"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/cluster"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/driver/ssh"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/host"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/machine"
	infrawebhook "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/webhook"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/version"
)

func main() {
	o := &options{log: logs.NewOptions()}
	o.addFlags(pflag.CommandLine)
	pflag.CommandLine.AddGoFlagSet(flag.CommandLine)
	pflag.Parse()
	if o.version {
		fmt.Println(version.String())
		return
	}
	if err := run(ctrl.SetupSignalHandler(), o); err != nil {
		fmt.Fprintln(os.Stderr, "infrastructure-manager:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options) error {
	if err := logsv1.ValidateAndApply(o.log, nil); err != nil {
		return fmt.Errorf("logging flags: %w", err)
	}
	ctrl.SetLogger(klog.Background())
	ctx = ctrl.LoggerInto(ctx, klog.Background())
	tlsOptions, metrics, err := flags.GetManagerOptions(o.manager)
	if err != nil {
		return fmt.Errorf("manager flags: %w", err)
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the management cluster: %w", err)
	}
	config.QPS, config.Burst = o.qps, o.burst
	config.UserAgent = "rack-infrastructure-manager/" + version.Version
	managerOptions, err := o.managerOptions(tlsOptions, metrics)
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(config, managerOptions)
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	if err := setup(ctx, mgr, o); err != nil {
		return err
	}
	klog.Background().Info("Starting infrastructure-manager", "version", version.String())
	return mgr.Start(ctx)
}

func setup(ctx context.Context, mgr ctrl.Manager, o *options) error {
	ready := mgr.GetWebhookServer().StartedChecker()
	if err := mgr.AddReadyzCheck("webhook", ready); err != nil {
		return err
	}
	if err := mgr.AddHealthzCheck("webhook", ready); err != nil {
		return err
	}
	if err := infrawebhook.SetupWithManager(mgr); err != nil {
		return err
	}
	if err := cluster.SetupWithManager(ctx, mgr, cluster.Options{WatchFilter: o.watchFilter, Concurrency: o.clusters}); err != nil {
		return err
	}
	if err := machine.SetupWithManager(ctx, mgr, machine.Options{WatchFilter: o.watchFilter, Concurrency: o.machines}); err != nil {
		return err
	}
	return host.SetupWithManager(ctx, mgr, ssh.Dial, host.Options{
		WatchFilter: o.watchFilter, Concurrency: o.hosts, ReleaseTimeout: o.releaseTimeout,
	})
}

func (o *options) managerOptions(tlsOptions []func(*tls.Config), metrics *metricsserver.Options) (ctrl.Options, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, clusterv1.AddToScheme, infrav1.AddToScheme} {
		if err := add(scheme); err != nil {
			return ctrl.Options{}, fmt.Errorf("building the scheme: %w", err)
		}
	}
	out := ctrl.Options{
		Scheme:                        scheme,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              "rack-manager-leader-election-capi",
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &o.leaseDuration,
		RenewDeadline:                 &o.renewDeadline,
		RetryPeriod:                   &o.retryPeriod,
		HealthProbeBindAddress:        o.healthAddr,
		Metrics:                       *metrics,
		Cache:                         cache.Options{SyncPeriod: &o.syncPeriod},
		WebhookServer:                 webhook.NewServer(webhook.Options{Port: o.webhookPort, CertDir: o.webhookCertDir, TLSOpts: tlsOptions}),
	}
	if o.namespace != "" {
		out.Cache.DefaultNamespaces = map[string]cache.Config{o.namespace: {}}
	}
	return out, nil
}
