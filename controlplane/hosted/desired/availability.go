// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

const (
	// shutdownDelay is how long a stopping API server goes on to serve as before:
	// so long that a busy kube-proxy or gateway has heard of it.
	shutdownDelay = 10 * time.Second

	// watchDrain is how long it then takes to end the watches of its clients.
	watchDrain = 2 * time.Second

	// tunnelDelay is how long a stopping konnectivity server goes on, as its API
	// server needs the tunnel for webhooks and aggregated APIs until its own end.
	tunnelDelay = shutdownDelay + watchDrain + 3*time.Second

	// terminationGrace leaves time for requests after all of these.
	terminationGrace int64 = 45

	// minReady is how many seconds a new pod serves before an old one is stopped:
	// long enough that agents, which look every five seconds, are connected to it.
	minReady int32 = 5
)

// requests are what a component without work uses, in the order of processor and
// memory, rounded up from docs/benchmarks.md. There are no limits: a control
// plane that is busy must not be slowed down or killed.
var requests = map[string][2]string{
	"kube-apiserver":          {"20m", "200Mi"},
	"kube-controller-manager": {"10m", "50Mi"},
	"kube-scheduler":          {"5m", "30Mi"},
	"konnectivity-server":     {"1m", "10Mi"},
}

// resources are those of a component, or what the user has set instead.
func resources(component string, given *corev1.ResourceRequirements) corev1.ResourceRequirements {
	if given != nil {
		return *given
	}
	use, known := requests[component]
	if !known {
		return corev1.ResourceRequirements{}
	}
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(use[0]), corev1.ResourceMemory: resource.MustParse(use[1]),
	}}
}

// LeaseDuration is how long a component leads without a word. Each renewal of a Lease is a write to the datastore that many
// tenants share, and every two seconds, as is the default, they are most of what an idle control plane does; a component that
// can't renew for ten seconds, on a crowded node, exits. The price is that controllers stand still for thirty seconds and not
// for fifteen after their leader has died. One that stops hands its Lease over: kube-scheduler by itself, and the engine does
// it for kube-controller-manager.
const LeaseDuration = 30 * time.Second

// leaderElection are flags of the components of which one works at a time. Who sets one of the three has the component's own
// defaults for the others, which it has to fit.
func leaderElection(user []string) flags {
	out := flags{"leader-elect-lease-duration": LeaseDuration.String(), "leader-elect-renew-deadline": "20s", "leader-elect-retry-period": "5s"}
	for name := range out {
		if given(user, name) {
			return nil
		}
	}
	return out
}

// goOn has a container work for a while after its pod was told to stop.
func goOn(d time.Duration) *corev1.Lifecycle {
	return &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: int64(d.Seconds())}}}
}

// collectEarly makes Go collect garbage when the heap has grown by half instead of
// by all, which saves a fifth of the API server (docs/benchmarks.md). A busy one
// spends more of its time on that, an idle one doesn't notice.
func collectEarly() corev1.EnvVar { return corev1.EnvVar{Name: "GOGC", Value: "50"} }

// disruptionBudget lets a drain of nodes stop one pod after the other. A single
// pod has none, because that would forbid to drain its node at all.
func disruptionBudget(tenant *kamajiv1alpha1.TenantControlPlane) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
		ObjectMeta: objectMeta(tenant, tenant.Name, "disruption-budget"),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: ptr.To(intstr.FromInt32(1)),
			Selector:       &metav1.LabelSelector{MatchLabels: Selector(tenant)},
			// A pod that doesn't serve protects nothing.
			UnhealthyPodEvictionPolicy: ptr.To(policyv1.AlwaysAllow),
		},
	}
}

// spread keeps replicas on different nodes where that is possible, those of each
// revision by themselves: old pods must not push new ones together.
func spread(tenant *kamajiv1alpha1.TenantControlPlane) []corev1.TopologySpreadConstraint {
	spec := &tenant.Spec.ControlPlane.Deployment
	ours := &metav1.LabelSelector{MatchLabels: Selector(tenant)}
	if len(spec.TopologySpreadConstraints) == 0 && spec.Affinity == nil {
		return []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: ours,
			MatchLabelKeys: []string{"pod-template-hash"},
		}}
	}
	out := make([]corev1.TopologySpreadConstraint, 0, len(spec.TopologySpreadConstraints))
	for _, c := range spec.TopologySpreadConstraints {
		if c.LabelSelector == nil {
			c.LabelSelector = ours
		}
		out = append(out, c)
	}
	return out
}

// priorityClass is the tenant's own, or the installation's.
func priorityClass(in Input) string {
	if own := in.Tenant.Spec.ControlPlane.Deployment.PriorityClassName; own != "" {
		return own
	}
	return in.PriorityClass
}
