// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/spf13/pflag"
	"k8s.io/component-base/logs"
	logsv1 "k8s.io/component-base/logs/api/v1"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/flags"
)

// options are the flags, named as those of Cluster API's own managers.
type options struct {
	log     *logs.Options
	manager flags.ManagerOptions

	version                                   bool
	leaderElect                               bool
	leaseDuration, renewDeadline, retryPeriod time.Duration
	namespace, watchFilter                    string
	healthAddr                                string
	webhookPort                               int
	webhookCertDir                            string
	syncPeriod                                time.Duration
	qps                                       float32
	burst                                     int
	clusters, machines, hosts                 int
	releaseTimeout                            time.Duration
}

func (o *options) addFlags(fs *pflag.FlagSet) {
	logsv1.AddFlags(o.log, fs)
	flags.AddManagerOptions(fs, &o.manager)
	fs.BoolVar(&o.version, "version", false, "Print the version and exit.")
	fs.BoolVar(&o.leaderElect, "leader-elect", false, "Let only one of several replicas be active.")
	fs.DurationVar(&o.leaseDuration, "leader-elect-lease-duration", 15*time.Second, "How long a replica waits before it takes over from a leader that is silent.")
	fs.DurationVar(&o.renewDeadline, "leader-elect-renew-deadline", 10*time.Second, "How long the leader tries to renew its lease before it gives up.")
	fs.DurationVar(&o.retryPeriod, "leader-elect-retry-period", 2*time.Second, "How often replicas try to get or renew the lease.")
	fs.StringVar(&o.namespace, "namespace", "", "The only namespace to work in; empty means all.")
	fs.StringVar(&o.watchFilter, "watch-filter", "", "Work only on objects whose label "+clusterv1.WatchLabel+" has this value; empty means all.")
	fs.StringVar(&o.healthAddr, "health-addr", ":9440", "Address of the health endpoint.")
	fs.IntVar(&o.webhookPort, "webhook-port", 9443, "Port of the webhook server.")
	fs.StringVar(&o.webhookCertDir, "webhook-cert-dir", "/tmp/k8s-webhook-server/serving-certs/", "Folder with tls.crt and tls.key of the webhook server.")
	fs.DurationVar(&o.syncPeriod, "sync-period", 10*time.Minute, "The longest time between two looks at an object.")
	fs.Float32Var(&o.qps, "kube-api-qps", 100, "Requests per second to the API server.")
	fs.IntVar(&o.burst, "kube-api-burst", 200, "Requests to the API server in one burst.")
	fs.IntVar(&o.clusters, "rackcluster-concurrency", 10, "RackClusters worked on at a time.")
	fs.IntVar(&o.machines, "rackmachine-concurrency", 10, "RackMachines worked on at a time.")
	fs.IntVar(&o.hosts, "rackhost-concurrency", 50, "RackHosts worked on at a time.")
	fs.DurationVar(&o.releaseTimeout, "release-timeout", 10*time.Minute, "How long a deleted machine waits for proof that its host is clean before the host is put into quarantine and the machine let go.")
}
