// SPDX-License-Identifier: Apache-2.0

package desired

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// probeKind is the place of a probe in its container.
type probeKind int

const (
	liveness probeKind = iota
	readiness
	startup
)

// startupBudgetSeconds is how long a component may take to start before it is killed: five minutes, so that a slow
// datastore or a crowded node makes a start late and not endless.
const startupBudgetSeconds = 300

// probe asks a component for its health. The timing follows kubeadm, with two exceptions. A starting component is asked every second, with a
// budget of five minutes: how long it takes is seen to the second, and a slow datastore kills nothing. And readiness is asked for every five
// seconds instead of every second.
func probe(kind probeKind, scheme corev1.URIScheme, path string, port int32) *corev1.Probe {
	out := &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(port), Scheme: scheme}},
		TimeoutSeconds:   15,
		SuccessThreshold: 1,
	}
	switch kind {
	case liveness:
		out.PeriodSeconds, out.FailureThreshold = 10, 8
	case readiness:
		// A probe costs a TLS handshake on both sides, for every tenant and for ever (docs/benchmarks.md).
		out.PeriodSeconds, out.FailureThreshold = 5, 2
	case startup:
		out.TimeoutSeconds, out.PeriodSeconds, out.FailureThreshold = 5, 1, startupBudgetSeconds
	}
	return out
}

// tuned applies overrides to a probe, the last one winning.
func tuned(p *corev1.Probe, overrides ...*kamajiv1alpha1.ProbeSpec) *corev1.Probe {
	for _, o := range overrides {
		if o == nil {
			continue
		}
		for _, field := range []struct {
			to   *int32
			from *int32
		}{
			{&p.InitialDelaySeconds, o.InitialDelaySeconds}, {&p.TimeoutSeconds, o.TimeoutSeconds}, {&p.PeriodSeconds, o.PeriodSeconds},
			{&p.SuccessThreshold, o.SuccessThreshold}, {&p.FailureThreshold, o.FailureThreshold},
		} {
			if field.from != nil {
				*field.to = *field.from
			}
		}
	}
	return p
}

// overrides are the probe settings for one component, with those for all components.
type overrides struct{ all, own kamajiv1alpha1.ProbeSet }

func probeOverrides(tenant *kamajiv1alpha1.TenantControlPlane, own func(*kamajiv1alpha1.ControlPlaneProbes) *kamajiv1alpha1.ProbeSet) overrides {
	probes := tenant.Spec.ControlPlane.Deployment.Probes
	if probes == nil {
		return overrides{}
	}
	out := overrides{all: probes.ProbeSet}
	if set := own(probes); set != nil {
		out.own = *set
	}
	return out
}

// sibling sets the probes of a component beside the API server. There is no
// readiness probe unless the user tunes one: such a component serves nobody, and
// a hiccup of it must not take the API server out of the Service.
func (o overrides) sibling(c *corev1.Container, port int32) {
	c.LivenessProbe = tuned(probe(liveness, corev1.URISchemeHTTPS, "/healthz", port), o.all.Liveness, o.own.Liveness)
	c.StartupProbe = tuned(probe(startup, corev1.URISchemeHTTPS, "/healthz", port), o.all.Startup, o.own.Startup)
	if o.own.Readiness != nil {
		c.ReadinessProbe = tuned(probe(readiness, corev1.URISchemeHTTPS, "/healthz", port), o.all.Readiness, o.own.Readiness)
	}
}
