// SPDX-License-Identifier: Apache-2.0

// Package inventory chooses a host for a machine. It is pure: it sees hosts and claims as they are and returns the
// hosts that will do, best first, or says in a sentence why none will.
package inventory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/klog/v2"

	infrav1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/infrastructure/api/v1alpha1"
)

// Request is what a machine asks of a host.
type Request struct {
	Selector    infrav1.HostSelector
	Tolerations []corev1.Toleration
	// FailureDomain the host must be in; empty accepts any.
	FailureDomain string
	// Version of Kubernetes, e.g. v1.36.3: among equals, a host with that kubeadm wins. It never turns a host down,
	// since bootstrap data may install what it needs.
	Version string
}

// Choice is the answer to a Request.
type Choice struct {
	// Hosts that will do, best first: names.
	Hosts []string
	// Refused counts the other hosts by the first cause found, in words.
	Refused map[string]int
}

// Explain says why there is no host, with the number of hosts turned down for each cause, most frequent first:
// "none of 5 hosts can be taken: 3 claimed, 2 don't match hostSelector".
func (c Choice) Explain() string {
	total := 0
	causes := make([]string, 0, len(c.Refused))
	for cause, n := range c.Refused {
		total += n
		causes = append(causes, cause)
	}
	if total == 0 {
		return "there is no RackHost in this namespace"
	}
	slices.SortFunc(causes, func(a, b string) int {
		return cmp.Or(cmp.Compare(c.Refused[b], c.Refused[a]), cmp.Compare(a, b))
	})
	for i, cause := range causes {
		causes[i] = fmt.Sprintf("%d %s", c.Refused[cause], cause)
	}
	hosts := "hosts"
	if total == 1 {
		hosts = "host"
	}
	return fmt.Sprintf("none of %d %s can be taken: %s", total, hosts, strings.Join(causes, ", "))
}

// Pick sorts out hosts for req. claimed holds the names of hosts that have a RackHostClaim. The only error is a
// selector that can't be read.
func Pick(req Request, hosts []infrav1.RackHost, claimed map[string]bool) (Choice, error) {
	required, err := selector(req.Selector.MatchLabels, req.Selector.MatchExpressions)
	if err != nil {
		return Choice{}, fmt.Errorf("hostSelector: %w", err)
	}
	preferred, err := preferences(req.Selector.Preferred)
	if err != nil {
		return Choice{}, err
	}
	choice := Choice{Refused: map[string]int{}}
	var left []*infrav1.RackHost
	for i := range hosts {
		host := &hosts[i]
		if cause := refusal(req, required, host, claimed[host.Name]); cause != "" {
			choice.Refused[cause]++
			continue
		}
		left = append(left, host)
	}
	slices.SortFunc(left, func(a, b *infrav1.RackHost) int {
		return cmp.Or(
			cmp.Compare(score(preferred, b), score(preferred, a)),
			cmp.Compare(versionRank(req.Version, a), versionRank(req.Version, b)),
			compareSize(a, b),
			cmp.Compare(a.Name, b.Name),
		)
	})
	for _, host := range left {
		choice.Hosts = append(choice.Hosts, host.Name)
	}
	return choice, nil
}

// refusal is the first cause that speaks against host, or "". What the user asked for comes before what the host is
// doing: a host that would never do is no news when it is also busy.
func refusal(req Request, required labels.Selector, host *infrav1.RackHost, claimed bool) string {
	switch {
	case !required.Matches(labels.Set(host.Labels)):
		return "don't match hostSelector"
	case req.FailureDomain != "" && host.Spec.FailureDomain != req.FailureDomain:
		return fmt.Sprintf("not in failure domain %q", req.FailureDomain)
	}
	if taint := untolerated(req.Tolerations, host.Spec.Taints); taint != "" {
		return "with taint " + taint + " that is not tolerated"
	}
	switch {
	case !host.DeletionTimestamp.IsZero():
		return "being deleted"
	case claimed || host.Status.Claim != nil:
		return "claimed"
	case host.Spec.Unavailable:
		return "marked unavailable"
	case host.Status.Phase != infrav1.HostAvailable:
		return state(host)
	case !meta.IsStatusConditionTrue(host.Status.Conditions, infrav1.HostCleanCondition):
		return "not verified clean"
	}
	return ""
}

// state words the phase of a host that is not available, with the reason that its Ready condition gives.
func state(host *infrav1.RackHost) string {
	phase := host.Status.Phase
	if phase == "" {
		phase = infrav1.HostRegistering
	}
	text := strings.ToLower(string(phase))
	ready := meta.FindStatusCondition(host.Status.Conditions, infrav1.HostReadyCondition)
	if ready != nil && ready.Reason != "" && ready.Reason != string(phase) {
		text += " (" + ready.Reason + ")"
	}
	return text
}

func untolerated(tolerations []corev1.Toleration, taints []corev1.Taint) string {
	for i := range taints {
		taint := &taints[i]
		if taint.Effect == corev1.TaintEffectPreferNoSchedule {
			continue
		}
		tolerated := slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool {
			return t.ToleratesTaint(klog.Background(), taint, false)
		})
		if !tolerated {
			return taint.ToString()
		}
	}
	return ""
}

type preference struct {
	weight   int32
	selector labels.Selector
}

func preferences(in []infrav1.HostPreference) ([]preference, error) {
	out := make([]preference, 0, len(in))
	for i, p := range in {
		s, err := selector(p.MatchLabels, p.MatchExpressions)
		if err != nil {
			return nil, fmt.Errorf("hostSelector.preferred[%d]: %w", i, err)
		}
		out = append(out, preference{p.Weight, s})
	}
	return out, nil
}

func score(preferred []preference, host *infrav1.RackHost) int32 {
	var sum int32
	for _, p := range preferred {
		if p.selector.Matches(labels.Set(host.Labels)) {
			sum += p.weight
		}
	}
	for i := range host.Spec.Taints {
		if host.Spec.Taints[i].Effect == corev1.TaintEffectPreferNoSchedule {
			sum--
		}
	}
	return sum
}

func versionRank(version string, host *infrav1.RackHost) int {
	if version != "" && host.Status.Facts != nil && host.Status.Facts.KubeadmVersion == version {
		return 0
	}
	return 1
}

// compareSize puts the smaller host first, so that big ones are left for who needs them.
func compareSize(a, b *infrav1.RackHost) int {
	x, y := a.Status.Facts, b.Status.Facts
	if x == nil || y == nil {
		return 0
	}
	return cmp.Or(cmp.Compare(x.CPUs, y.CPUs), x.Memory.Cmp(y.Memory))
}

func selector(matchLabels map[string]string, expressions []metav1.LabelSelectorRequirement) (labels.Selector, error) {
	return metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchLabels: matchLabels, MatchExpressions: expressions})
}
