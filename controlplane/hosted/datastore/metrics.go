// SPDX-License-Identifier: Apache-2.0

package datastore

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/gauge"
)

// Names and labels of the first three are Kamaji's, so that its dashboards and alerts keep working.
var (
	info    = gauge.NewInfo("kamaji_datastore_info", "What a DataStore is. Always 1.", "datastore_name", "driver")
	status  = gauge.NewInfo("kamaji_datastore_status", "Whether a DataStore is usable. Always 1.", "datastore_name", "status", "ready")
	current = gauge.NewCount("kamaji_datastores_current", "Number of DataStores.", "datastore_name", "ready", "driver")
	users   = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kamaji_datastore_tenants",
		Help: "Number of tenants that keep state in a DataStore.",
	}, []string{"datastore_name"})
)

func init() { metrics.Registry.MustRegister(info, status, current, users) }

func record(store *kamajiv1alpha1.DataStore) {
	driver, ready := string(store.Spec.Driver), strconv.FormatBool(store.Status.Ready)
	info.Set(store.Name, store.Name, driver)
	status.Set(store.Name, store.Name, ready, ready)
	current.Set(store.Name, store.Name, ready, driver)
	users.WithLabelValues(store.Name).Set(float64(len(store.Status.UsedBy)))
}

func forget(name string) {
	info.Delete(name)
	status.Delete(name)
	current.Delete(name)
	users.DeleteLabelValues(name)
}
