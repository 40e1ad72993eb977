// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/upgrade"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

const (
	// preflightRetry is how soon a refused upgrade is looked at again: nodes of a
	// tenant are replaced without anybody telling us.
	preflightRetry = time.Minute
	// nodesPage is how many nodes are read in one request.
	nodesPage = 250
)

// course is which version this pass runs, and why not the wanted one.
type course struct {
	upgrade.Course
	// served is the last version that was rolled out as a whole.
	served string
	// verdict is what keeps the wanted version from being rolled out, nil if nothing does.
	verdict error
}

// plan finds out which version to run, and puts it into s.effective, which builders get, with the number of pods to run at present.
func (r *Reconciler) plan(ctx context.Context, s *scope) error {
	live := &appsv1.Deployment{}
	if err := r.Client.Get(ctx, client.ObjectKeyFromObject(s.tenant), live); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading Deployment %s: %w", client.ObjectKeyFromObject(s.tenant), err)
	}
	state, err := r.versions(ctx, s.tenant, live)
	if err != nil {
		return err
	}
	next, err := r.steps().Plan(state)
	if err != nil {
		return phase.Fatal(kamajiv1alpha1.InvalidVersionReason, "spec.kubernetes.version: %v", err)
	}
	s.course = course{Course: next, served: state.Served}
	switch {
	case next.Invalid != nil:
		s.course.verdict = phase.Fatal(kamajiv1alpha1.InvalidVersionReason, "spec.kubernetes.version: %v; %s keeps running", next.Invalid, state.Served)
	case next.Failed != "":
		s.course.verdict = phase.Wait(kamajiv1alpha1.UpgradeFailedReason, "pods of %s did not get ready in time, so %s was restored. Change the spec to have it tried again, "+
			"or remove the annotation %s from ConfigMap %s", next.Failed, state.Served, desired.FailedVersionAnnotation, desired.Name(s.tenant, desired.KubeadmConfig))
	case next.Begins:
		if s.course.verdict = r.preflight(ctx, s, next.Version, live.Status.ReadyReplicas > 0); s.course.verdict != nil {
			s.course.Version = state.Served
		}
	}
	s.effective = s.tenant.DeepCopy()
	s.effective.Spec.Kubernetes.Version = s.course.Version
	s.effective.Spec.ControlPlane.Deployment.Replicas = ptr.To(s.replicas())
	return nil
}

func (r *Reconciler) steps() upgrade.Steps {
	if r.Steps == nil {
		return upgrade.DefaultSteps
	}
	return r.Steps
}

// versions reads what is recorded, so that a lost status allows no downgrade.
func (r *Reconciler) versions(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane, live *appsv1.Deployment) (upgrade.State, error) {
	record := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: tenant.Namespace, Name: desired.Name(tenant, desired.KubeadmConfig)}
	if err := r.Client.Get(ctx, key, record); client.IgnoreNotFound(err) != nil {
		return upgrade.State{}, fmt.Errorf("reading ConfigMap %s: %w", key, err)
	}
	state := upgrade.State{Wanted: tenant.KubernetesVersion(), Served: record.Annotations[desired.ServedVersionAnnotation]}
	if state.Served == "" {
		state.Served = tenant.Status.Kubernetes.Version.Version
	}
	state.Live = live.Spec.Template.Annotations[desired.VersionAnnotation]
	failed, spec, _ := strings.Cut(record.Annotations[desired.FailedVersionAnnotation], " ")
	if spec == specDigest(tenant) {
		state.Failed = failed
	}
	if state.Live == "" || state.Live == state.Served {
		return state, nil
	}
	state.LiveFailed = live.Status.ObservedGeneration >= live.Generation && slices.ContainsFunc(live.Status.Conditions, func(c appsv1.DeploymentCondition) bool {
		return c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse
	})
	if rollout(live, ptr.Deref(live.Spec.Replicas, 1)) != nil {
		return state, nil
	}
	// The next step must not start while there are pods of the one before the last.
	pods, err := r.pods(ctx, tenant)
	if err != nil {
		return state, err
	}
	others := slices.ContainsFunc(pods, func(p metav1.PartialObjectMetadata) bool {
		return p.Annotations[desired.VersionAnnotation] != state.Live
	})
	if !others {
		state.Served = state.Live
	}
	return state, nil
}

// failedRecord is what is kept about a version that was given up.
func (s *scope) failedRecord() string {
	if s.course.Failed == "" {
		return ""
	}
	return s.course.Failed + " " + specDigest(s.tenant)
}

// specDigest identifies the spec but for its replicas, which an autoscaler
// changes without anything being any better.
func specDigest(tenant *kamajiv1alpha1.TenantControlPlane) string {
	spec := tenant.Spec.DeepCopy()
	spec.ControlPlane.Deployment.Replicas = nil
	data, err := json.Marshal(spec)
	if err != nil {
		// The spec came as JSON.
		panic(err)
	}
	return digest(string(data))
}

// preflight looks whether a version can be rolled out, and says why not. A tenant
// that is not answering, because it sleeps or is broken, is judged by its spec alone.
func (r *Reconciler) preflight(ctx context.Context, s *scope, to string, answering bool) error {
	if s.tenant.Annotations[SkipPreflightAnnotation] == to {
		return nil
	}
	look := upgrade.Preflight{To: to, Args: map[string][]string{}}
	if answering {
		if err := r.survey(ctx, s, &look); err != nil {
			return phase.WaitFor(preflightRetry, kamajiv1alpha1.PreflightFailedReason, "the tenant can't be looked at before its upgrade to %s: %v", to, err)
		}
	}
	deployment := &s.tenant.Spec.ControlPlane.Deployment
	for _, plugin := range s.tenant.Spec.Kubernetes.AdmissionControllers {
		look.Plugins = append(look.Plugins, string(plugin))
	}
	if extra := deployment.ExtraArgs; extra != nil {
		look.Args = map[string][]string{"apiServer": extra.APIServer, "controllerManager": extra.ControllerManager, "scheduler": extra.Scheduler}
	}
	problems := look.Problems()
	if len(problems) == 0 {
		return nil
	}
	return phase.WaitFor(preflightRetry, kamajiv1alpha1.PreflightFailedReason, "%s is not rolled out: %s. To go on all the same, annotate the object with %s=%s",
		to, strings.Join(problems, "; "), SkipPreflightAnnotation, to)
}

// survey reads from the tenant what an upgrade depends on.
func (r *Reconciler) survey(ctx context.Context, s *scope, look *upgrade.Preflight) error {
	ctx, cancel := context.WithTimeout(ctx, insideTimeout)
	defer cancel()
	access, err := r.access(s)
	if err != nil {
		return err
	}
	if look.Nodes, err = nodes(ctx, access.Client); err != nil {
		return fmt.Errorf("reading its nodes: %w", err)
	}
	apis, err := access.DeprecatedAPIs(ctx)
	if err != nil {
		return fmt.Errorf("reading which APIs are in use: %w", err)
	}
	for _, api := range apis {
		look.APIs = append(look.APIs, upgrade.API(api))
	}
	return nil
}

// nodes reads the nodes of a tenant, page by page.
func nodes(ctx context.Context, c client.Client) ([]upgrade.Node, error) {
	var out []upgrade.Node
	page := &corev1.NodeList{}
	for {
		if err := c.List(ctx, page, client.Limit(nodesPage), client.Continue(page.Continue)); err != nil {
			return nil, err
		}
		for i := range page.Items {
			out = append(out, upgrade.Node{Name: page.Items[i].Name, Kubelet: page.Items[i].Status.NodeInfo.KubeletVersion})
		}
		if page.Continue == "" {
			return out, nil
		}
	}
}

// reached reports whether the wanted version is the one that runs. It comes after
// all steps for the version that does, which has to be cared for in any case.
func (r *Reconciler) reached(_ context.Context, s *scope) error { return s.course.verdict }

// way tells of an upgrade under way, to be appended to what it waits for.
func (s *scope) way() string {
	wanted := s.tenant.KubernetesVersion()
	switch {
	case s.course.served == "" || s.course.Version == s.course.served:
		return ""
	case s.course.Version == wanted:
		return fmt.Sprintf(" (upgrade from %s to %s)", s.course.served, wanted)
	}
	steps := "step"
	more := upgrade.Minor(wanted) - upgrade.Minor(s.course.Version)
	if more > 1 {
		steps = "steps"
	}
	return fmt.Sprintf(" (upgrade from %s to %s, now to %s, then %d more %s)", s.course.served, wanted, s.course.Version, more, steps)
}
