// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/gauge"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// Names and labels are Kamaji's, so that its dashboards and alerts keep working.
var (
	info = gauge.NewInfo("kamaji_tenant_control_plane_info", "What a tenant control plane is. Always 1.",
		"tcp_namespace", "tcp_name", "kubernetes_version", "datastore_driver", "address", "exposure_strategy")
	status = gauge.NewInfo("kamaji_tenant_control_plane_status", "Phase of a tenant control plane, and whether it is ready. Always 1.",
		"tcp_namespace", "tcp_name", "status", "ready")
	current = gauge.NewCount("kamaji_tenant_control_planes_current", "Number of tenant control planes.", "ready").Zero("true").Zero("false")
	expiry  = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kamaji_certificate_expiration_timestamp_seconds",
		Help: "When a tenant's certificate authority, or the first of its certificates, ends, in seconds since 1970.",
	}, []string{"tcp_namespace", "tcp_name", "kind"})
	steps = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "kamaji_handler_time_seconds",
		Help:    "Time that one step of one pass has taken, by the condition it reports.",
		Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
	}, []string{"handler"})
)

func init() { metrics.Registry.MustRegister(info, status, current, expiry, steps) }

// record shows the tenant's status as metrics, at the same cost however many tenants there are.
func record(tenant *kamajiv1alpha1.TenantControlPlane) {
	key := client.ObjectKeyFromObject(tenant).String()
	ready := strconv.FormatBool(meta.IsStatusConditionTrue(tenant.Status.Conditions, phase.Ready))
	what := kamajiv1alpha1.PhaseProvisioning
	if p := tenant.Status.Kubernetes.Version.Status; p != nil {
		what = *p
	}
	info.Set(key, tenant.Namespace, tenant.Name, tenant.Status.Kubernetes.Version.Version, tenant.Status.Storage.Driver,
		tenant.Status.ControlPlaneEndpoint, exposure(tenant))
	status.Set(key, tenant.Namespace, tenant.Name, string(what), ready)
	current.Set(key, ready)
}

// kinds are the values of the label kind of expiry.
const (
	kindAuthority   = "authority"
	kindCertificate = "certificate"
)

// recordExpiry shows when the authority, and the first of its certificates, end.
func recordExpiry(tenant *kamajiv1alpha1.TenantControlPlane, authority, certificate time.Time) {
	expiry.WithLabelValues(tenant.Namespace, tenant.Name, kindAuthority).Set(float64(authority.Unix()))
	expiry.WithLabelValues(tenant.Namespace, tenant.Name, kindCertificate).Set(float64(certificate.Unix()))
}

// exposure is how clients reach the tenant.
func exposure(tenant *kamajiv1alpha1.TenantControlPlane) string {
	switch spec := tenant.Spec.ControlPlane; {
	case spec.KamajiGateway != nil: // with a Gateway of the Gateway API for customers, too
		return "kamaji-gateway"
	case spec.Gateway != nil:
		return "gateway"
	case spec.Ingress != nil:
		return "ingress"
	default:
		return "service"
	}
}

// forget drops what is remembered of a tenant.
func (r *Reconciler) forget(name types.NamespacedName) {
	r.memory.forget(name)
	r.queue.over(name, time.Now())
	for _, kind := range []string{kindAuthority, kindCertificate} {
		expiry.DeleteLabelValues(name.Namespace, name.Name, kind)
	}
	r.trust.forget(name)
	r.jobs.Stop(name)
	r.choices.forget(name)
	r.departed.forget(name)
	r.Remote.Forget(name)
	r.publications.over(name)
	r.writes.forget(name)
	info.Delete(name.String())
	status.Delete(name.String())
	current.Delete(name.String())
}

// timed reports how long each step takes.
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
