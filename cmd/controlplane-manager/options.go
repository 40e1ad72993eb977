// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"os"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
	clusterflags "sigs.k8s.io/cluster-api/util/flags"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
)

// options are the flags of the manager.
type options struct {
	manager clusterflags.ManagerOptions

	namespace, watchFilter, healthAddress                string
	leaderElect, webhooks, version                       bool
	webhookPort                                          int
	webhookCerts                                         string
	syncPeriod                                           time.Duration
	leaseDuration, renewDeadline, retryPeriod            time.Duration
	qps                                                  float32
	burst, controlPlanes, tenants, dataStores, starts    int
	defaultDataStore                                     string
	gatewayImage, kineImage, xdsBind, xdsAddress, xdsDir string
	activatorBind, activatorService                      string
	podNamespace, priorityClass                          string
	upgradeSteps, managementCIDRs                        []string
	networkPolicies                                      bool
	metricsNamespaces                                    string
}

func parse() options {
	o := options{podNamespace: os.Getenv("POD_NAMESPACE")}
	fs := pflag.CommandLine
	clusterflags.AddManagerOptions(fs, &o.manager)
	fs.StringVar(&o.namespace, "namespace", "", "namespace whose objects are reconciled; empty means all")
	fs.StringVar(&o.watchFilter, "watch-filter", "", "value of the label cluster.x-k8s.io/watch-filter that a KamajiControlPlane must have to be reconciled")
	fs.StringVar(&o.healthAddress, "health-addr", ":9440", "address of /healthz and /readyz")
	fs.BoolVar(&o.leaderElect, "leader-elect", false, "let one of several replicas reconcile; all of them serve xDS and webhooks")
	fs.DurationVar(&o.leaseDuration, "leader-elect-lease-duration", 15*time.Second, "how long other replicas wait for a silent leader")
	fs.DurationVar(&o.renewDeadline, "leader-elect-renew-deadline", 10*time.Second, "how long the leader tries to renew its lease before it gives up")
	fs.DurationVar(&o.retryPeriod, "leader-elect-retry-period", 2*time.Second, "how often replicas try to get or renew the lease")
	fs.BoolVar(&o.webhooks, "webhooks", true, "serve the admission webhooks")
	fs.IntVar(&o.webhookPort, "webhook-port", 9443, "port of the admission webhooks")
	fs.StringVar(&o.webhookCerts, "webhook-cert-dir", "/tmp/k8s-webhook-server/serving-certs", "folder with tls.crt and tls.key of the webhooks")
	fs.DurationVar(&o.syncPeriod, "sync-period", 10*time.Minute, "how often every object is looked at although nothing changed")
	fs.Float32Var(&o.qps, "kube-api-qps", -1, "requests per second to the API server for each kind of object; below 0 leaves it to the server's priority and fairness")
	fs.IntVar(&o.burst, "kube-api-burst", 200, "requests to the API server above kube-api-qps for a moment")
	fs.IntVar(&o.controlPlanes, "kamajicontrolplane-concurrency", 10, "KamajiControlPlanes reconciled at the same time")
	fs.IntVar(&o.tenants, "tenantcontrolplane-concurrency", 10, "TenantControlPlanes reconciled at the same time")
	fs.IntVar(&o.dataStores, "datastore-concurrency", 4, "DataStores checked at the same time")
	fs.StringVar(&o.defaultDataStore, "datastore", "default", "DataStore of tenants that name none; empty lets them wait")
	fs.StringVar(&o.priorityClass, "priority-class", "", "PriorityClass of control planes that name none; empty sets none")
	fs.StringVar(&o.kineImage, "kine-image", desired.KineImage, "image of kine, which tenants in datastores other than etcd need")
	fs.IntVar(&o.starts, "concurrent-starts", 0, "control planes whose pods may start at the same time; 0 is one for each processor of the management cluster's nodes, or eight with --namespace")
	fs.StringSliceVar(&o.upgradeSteps, "upgrade-steps", nil, "versions through which control planes go when they are upgraded by several minors, one for a minor; others have a default")
	fs.BoolVar(&o.networkPolicies, "network-policies", true, "give each control plane a NetworkPolicy; false removes them")
	fs.StringSliceVar(&o.managementCIDRs, "management-cidrs", []string{autoNetworks}, "networks that control planes may not connect to, beside link-local addresses: pods, nodes and API server of the management cluster; auto is what its Nodes tell")
	fs.StringVar(&o.metricsNamespaces, "metrics-namespaces", "kubernetes.io/metadata.name=monitoring", "label selector of the namespaces whose pods may read metrics of control planes; empty for none")
	fs.StringVar(&o.gatewayImage, "gateway-image", "ghcr.io/cluster-api-provider-kamaji/kamaji-gateway:v0.1.0", "image of the gateway's data plane")
	fs.StringVar(&o.xdsBind, "xds-bind-address", ":18000", "address at which routes are served to gateways; empty serves none")
	fs.StringVar(&o.xdsAddress, "xds-address", "kamaji-xds.kamaji-system.svc:18000", "host:port at which gateways in the cluster find the routes")
	fs.StringVar(&o.xdsDir, "xds-cert-dir", "/var/run/kamaji/xds", "folder with tls.crt, tls.key and ca.crt of the route server")
	fs.StringVar(&o.activatorBind, "activator-address", ":18001", "address at which clients of sleeping control planes are answered, who can wake them; empty answers nobody")
	fs.StringVar(&o.activatorService, "activator-service", "kamaji-activator", "Service of that address, in the manager's namespace, by which gateways find it; it has the label kamaji.clastix.io/project=kamaji")
	fs.BoolVar(&o.version, "version", false, "print the version and exit")
	logging := flag.NewFlagSet("", flag.ExitOnError)
	klog.InitFlags(logging)
	fs.AddGoFlag(logging.Lookup("v"))
	pflag.Parse()
	if o.podNamespace == "" {
		o.podNamespace = "kamaji-system"
	}
	return o
}
