// SPDX-License-Identifier: Apache-2.0

package datastore

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

var (
	ready = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kamaji_datastore_status",
		Help: "Whether a DataStore is usable (1) or not (0).",
	}, []string{"datastore", "driver"})
	users = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kamaji_datastore_tenants",
		Help: "Number of tenants that keep state in a DataStore.",
	}, []string{"datastore"})
)

func init() { metrics.Registry.MustRegister(ready, users) }

func record(store *kamajiv1alpha1.DataStore) {
	value := 0.0
	if store.Status.Ready {
		value = 1
	}
	ready.WithLabelValues(store.Name, string(store.Spec.Driver)).Set(value)
	users.WithLabelValues(store.Name).Set(float64(len(store.Status.UsedBy)))
}

func forget(name string) {
	ready.DeletePartialMatch(prometheus.Labels{"datastore": name})
	users.DeleteLabelValues(name)
}
