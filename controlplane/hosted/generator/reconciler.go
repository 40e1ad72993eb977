// SPDX-License-Identifier: Apache-2.0

package generator

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeconfig"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/apply"
)

// +kubebuilder:rbac:groups=kamaji.clastix.io,resources=kubeconfiggenerators,verbs=get;list;watch
// +kubebuilder:rbac:groups=kamaji.clastix.io,resources=kubeconfiggenerators/status,verbs=get;patch
// +kubebuilder:rbac:groups=kamaji.clastix.io,resources=tenantcontrolplanes,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// FieldOwner is the field manager of generated Secrets.
const FieldOwner = "kamaji-kubeconfig-generator"

const (
	// retry is how soon it is noticed that somebody else's Secret has gone, which no watch of ours reports.
	retry = 30 * time.Second
	// issuedReason and staleReason are those of Events.
	issuedReason = "KubeconfigIssued"
	staleReason  = "KubeconfigRemoved"
)

// Reconciler makes the Secrets of all generators for one tenant at a time. Client,
// Live and Recorder are required.
type Reconciler struct {
	// Client reads from the cache, which must hold all tenants' Secrets.
	Client client.Client
	// Live reads from the API server, before something is created.
	Live client.Reader
	// Recorder tells what was issued.
	Recorder events.EventRecorder
	// Namespaced says that the manager is confined to some namespaces and may not
	// read Namespaces. A namespaceSelector then is an error.
	Namespaced bool
	// Concurrency is the number of tenants handled at the same time, 0 for the default.
	Concurrency int

	tally tally
}

// Reconcile brings the generated Secrets of one tenant in order.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	generators := &kamajiv1alpha1.KubeconfigGeneratorList{}
	if err := r.Client.List(ctx, generators); err != nil {
		return ctrl.Result{}, fmt.Errorf("listing KubeconfigGenerators: %w", err)
	}
	tenant := &kamajiv1alpha1.TenantControlPlane{}
	err := r.Client.Get(ctx, request.NamespacedName, tenant)
	switch {
	case apierrors.IsNotFound(err), err == nil && !tenant.DeletionTimestamp.IsZero():
		// The garbage collector removes what belongs to a tenant.
		r.tally.forget(request.NamespacedName.String())
		return ctrl.Result{}, nil
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("reading TenantControlPlane %s: %w", request, err)
	}
	if _, paused := tenant.Annotations[kamajiv1alpha1.PausedAnnotation]; paused {
		return ctrl.Result{}, nil
	}
	p := &pass{Reconciler: r, tenant: tenant, now: time.Now(), keep: map[string]bool{}, verdicts: map[string]error{}}
	for i := range generators.Items {
		p.run(ctx, &generators.Items[i])
	}
	err = errors.Join(p.failed, p.prune(ctx))
	r.tally.set(request.NamespacedName.String(), p.verdicts)
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: p.pause()}, nil
}

// pass is one look at one tenant.
type pass struct {
	*Reconciler
	tenant *kamajiv1alpha1.TenantControlPlane
	now    time.Time
	// keep are the names of Secrets that are wanted.
	keep map[string]bool
	// verdicts of generators that select the tenant, by name; nil is good.
	verdicts map[string]error
	// failed are errors that are worth to try again.
	failed error
	wake   time.Time
}

func (p *pass) due(t time.Time) {
	if !t.IsZero() && (p.wake.IsZero() || t.Before(p.wake)) {
		p.wake = t
	}
}

func (p *pass) pause() time.Duration {
	if p.wake.IsZero() {
		return 0
	}
	return max(time.Until(p.wake), time.Second)
}

// run brings the Secret of one generator in order.
func (p *pass) run(ctx context.Context, g *kamajiv1alpha1.KubeconfigGenerator) {
	name := secretName(p.tenant.Name, g.Name)
	if !g.DeletionTimestamp.IsZero() {
		return
	}
	if _, paused := g.Annotations[kamajiv1alpha1.PausedAnnotation]; paused {
		p.keep[name] = true
		return
	}
	selected, err := p.selected(ctx, g)
	if !selected && err == nil {
		return
	}
	// What was made is kept while it can't be said what is wanted.
	p.keep[name] = true
	if err == nil {
		err = p.issue(ctx, g)
	}
	p.verdicts[g.Name] = err
	var foreign *apply.ForeignError
	switch {
	case err == nil:
	case errors.As(err, &foreign):
		p.due(p.now.Add(retry))
	case apierrors.ReasonForError(err) != metav1.StatusReasonUnknown:
		p.failed = errors.Join(p.failed, err)
	}
}

func (p *pass) selected(ctx context.Context, g *kamajiv1alpha1.KubeconfigGenerator) (bool, error) {
	var of map[string]string
	if len(g.Spec.NamespaceSelector.MatchLabels)+len(g.Spec.NamespaceSelector.MatchExpressions) > 0 {
		if p.Namespaced {
			return false, errors.New("spec.namespaceSelector: this manager is confined to its namespaces and can't read their labels: leave it empty")
		}
		namespace := &metav1.PartialObjectMetadata{}
		namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
		if err := p.Client.Get(ctx, client.ObjectKey{Name: p.tenant.Namespace}, namespace); err != nil {
			return false, fmt.Errorf("reading Namespace %s: %w", p.tenant.Namespace, err)
		}
		of = namespace.Labels
	}
	return selects(g, p.tenant, of)
}

// issue writes the Secret of one generator. What exists is read from the API server
// before something new is made: the cache may not know it yet.
func (p *pass) issue(ctx context.Context, g *kamajiv1alpha1.KubeconfigGenerator) error {
	in := inputs{}
	name := secretName(p.tenant.Name, g.Name)
	for _, input := range []struct {
		secret string
		data   *map[string][]byte
	}{
		{secretName(p.tenant.Name, pki.CA), &in.ca},
		{secretName(p.tenant.Name, kubeconfig.Admin), &in.admin},
	} {
		secret, err := p.secret(ctx, p.Client, input.secret)
		if err != nil {
			return err
		}
		if secret == nil {
			return fmt.Errorf("waits for Secret %s of the tenant", input.secret)
		}
		*input.data = secret.Data
	}
	var (
		object *corev1.Secret
		due    time.Time
		change pki.Change
	)
	for _, reader := range []client.Reader{p.Client, p.Live} {
		existing, err := p.secret(ctx, reader, name)
		if err != nil {
			return err
		}
		in.existing = nil
		if existing != nil {
			if existing.Labels[kamajiv1alpha1.ManagedByLabel] != short(g.Name) {
				return &apply.ForeignError{Object: "Secret " + p.tenant.Namespace + "/" + name}
			}
			in.existing = existing.Data
		}
		if object, due, change, err = wanted(g, p.tenant, in, p.now); err != nil {
			return err
		}
		if change == "" {
			break
		}
	}
	p.due(due)
	w := &apply.Writer{Client: p.Client, Live: p.Live, Owner: FieldOwner}
	if _, err := w.Apply(ctx, object); err != nil {
		return err
	}
	if change != "" {
		p.Recorder.Eventf(g, object, corev1.EventTypeNormal, issuedReason, "Issue", "%s the kubeconfig of %s in Secret %s/%s",
			string(change), p.tenant.Name, object.Namespace, object.Name)
	}
	return nil
}

// secret reads a Secret, nil if there is none.
func (p *pass) secret(ctx context.Context, reader client.Reader, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := reader.Get(ctx, client.ObjectKey{Namespace: p.tenant.Namespace, Name: name}, secret)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // the absence is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s/%s: %w", p.tenant.Namespace, name, err)
	}
	return secret, nil
}

// prune deletes Secrets of generators that are gone or select other tenants.
func (p *pass) prune(ctx context.Context) error {
	secrets := &corev1.SecretList{}
	if err := p.Client.List(ctx, secrets, client.InNamespace(p.tenant.Namespace), client.MatchingFields{generatedIndex: p.tenant.Name}); err != nil {
		return fmt.Errorf("listing generated Secrets of %s: %w", p.tenant.Name, err)
	}
	var failed error
	for i := range secrets.Items {
		secret := &secrets.Items[i]
		if p.keep[secret.Name] || !metav1.IsControlledBy(secret, p.tenant) {
			continue
		}
		err := p.Client.Delete(ctx, secret, client.Preconditions{UID: &secret.UID})
		if client.IgnoreNotFound(err) != nil {
			failed = errors.Join(failed, fmt.Errorf("deleting Secret %s/%s: %w", secret.Namespace, secret.Name, err))
			continue
		}
		if err == nil {
			p.Recorder.Eventf(p.tenant, secret, corev1.EventTypeNormal, staleReason, "Prune", "no KubeconfigGenerator asks for Secret %s any more", secret.Name)
		}
	}
	return failed
}
