// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

var (
	ready = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kamaji_tenant_control_plane_status",
		Help: "Whether a control plane is Ready (1) or not (0).",
	}, []string{"namespace", "name"})
	steps = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "kamaji_handler_time_seconds",
		Help:    "Time that one step of one pass has taken, by the condition it reports.",
		Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
	}, []string{"handler"})
)

func init() { metrics.Registry.MustRegister(ready, steps) }

func record(tenant *kamajiv1alpha1.TenantControlPlane) {
	value := 0.0
	if meta.IsStatusConditionTrue(tenant.Status.Conditions, phase.Ready) {
		value = 1
	}
	ready.WithLabelValues(tenant.Namespace, tenant.Name).Set(value)
}

// forget drops all that is kept in this process about a tenant.
func (r *Reconciler) forget(name types.NamespacedName) {
	r.memory.forget(name)
	r.jobs.Stop(name)
	r.Remote.Forget(name)
	ready.DeleteLabelValues(name.Namespace, name.Name)
}

// timed measures each step.
func (r *Reconciler) timed(list []phase.Step[*scope]) []phase.Step[*scope] {
	out := make([]phase.Step[*scope], 0, len(list))
	for _, step := range list {
		run, observer := step.Run, steps.WithLabelValues(step.Condition)
		step.Run = func(ctx context.Context, s *scope) error {
			start := time.Now()
			defer func() { observer.Observe(time.Since(start).Seconds()) }()
			return run(ctx, s)
		}
		out = append(out, step)
	}
	return out
}
