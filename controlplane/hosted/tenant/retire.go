// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

const (
	// pageOfTokens bounds one answer.
	pageOfTokens = 100
	// namedTokens is how many Secrets a condition names.
	namedTokens = 5
)

// needed tells who may still need the former one.
func (r *Reconciler) needed(s *scope, name string) string {
	const annotate = "annotate Secret %s with %s=" + kamajiv1alpha1.RetireNow + " when nobody needs the former one"
	cure := fmt.Sprintf(annotate, desired.Name(s.tenant, name), kamajiv1alpha1.RetireAnnotation)
	end, wrong := s.retires(name)
	switch retire := s.retire[name]; {
	case retire == kamajiv1alpha1.RetireNow:
		return ""
	case retire == kamajiv1alpha1.RetireHold:
		return "it is held: " + cure
	case wrong != "":
		return wrong
	case end.After(s.now):
		s.due(end)
		return fmt.Sprintf("the former one is kept until %s, as %s=%s says", end.UTC().Format(timeFormat), kamajiv1alpha1.RetireAfterAnnotation, s.keep[name])
	case name == pki.FrontProxyCA:
		// Only the API server has a certificate of front proxies, and all of its pods have the next one.
		return ""
	case name == pki.ServiceAccount && end.IsZero():
		return fmt.Sprintf("tokens of the former key may be in use, which nothing tells: replace Secrets of type %s and tokens made with a long duration, wait a day for those of pods, and %s; "+
			"or annotate it with %s, a duration after which all of them have ended", corev1.SecretTypeServiceAccountToken, cure, kamajiv1alpha1.RetireAfterAnnotation)
	}
	key, signer := memoryKey{tenant: client.ObjectKeyFromObject(s.tenant), task: taskNodes}, s.existing[name][pki.SignerFile]
	wait := "nodes that have not joined since trust the former one only; replace them, or " + cure
	if name == pki.ServiceAccount {
		key.task, signer = taskTokens, s.existing[name]["sa.pub"]
		wait = "Secrets with tokens are being looked through"
	}
	if done, _ := r.memory.done(key, []string{string(signer)}, s.now); done {
		return ""
	}
	return wait
}

// noteSince writes down that the next one is in use everywhere, for good: a status may be lost.
func (s *scope) noteSince(name string) {
	if _, err := time.Parse(timeFormat, s.since[name]); err != nil {
		s.since[name] = s.now.UTC().Format(timeFormat)
	}
}

// retires is when the former one is to be dropped, zero if nothing says so. The text tells what is wrong with the annotation.
func (s *scope) retires(name string) (end time.Time, wrong string) {
	keep, ok := s.keep[name]
	if !ok {
		return time.Time{}, ""
	}
	duration, err := time.ParseDuration(keep)
	if err != nil || duration < 0 {
		return time.Time{}, fmt.Sprintf("annotation %s=%q of Secret %s is no duration: use hours, such as 8760h", kamajiv1alpha1.RetireAfterAnnotation, keep, desired.Name(s.tenant, name))
	}
	since, err := time.Parse(timeFormat, s.since[name])
	if err != nil {
		since = s.now
	}
	return since.Add(duration), ""
}

// tokensDue tells whether nothing but Secrets with tokens can still need the former key of tokens.
func (s *scope) tokensDue() bool {
	end, wrong := s.retires(pki.ServiceAccount)
	return s.rotation.phases[pki.ServiceAccount] == pki.Retiring && s.retire[pki.ServiceAccount] == "" &&
		s.since[pki.ServiceAccount] != "" && wrong == "" && !end.IsZero() && !end.After(s.now)
}

// bearers looks for Secrets whose tokens the former key has signed. These are valid for as long as that is trusted, and
// unlike tokens that were asked for they can be seen.
func (r *Reconciler) bearers(ctx context.Context, s *scope, tenant client.Client) error {
	public := s.secrets[pki.ServiceAccount]["sa.pub"]
	id := pki.TokenKeyID(public)
	var left []string
	secrets := &corev1.SecretList{}
	for {
		err := tenant.List(ctx, secrets, client.MatchingFields{"type": string(corev1.SecretTypeServiceAccountToken)}, client.Limit(pageOfTokens), client.Continue(secrets.Continue))
		if err != nil {
			return fmt.Errorf("listing the tenant's Secrets with tokens: %w", err)
		}
		for i := range secrets.Items {
			if token := secrets.Items[i].Data[corev1.ServiceAccountTokenKey]; len(token) > 0 && pki.SignedBy(token) != id {
				left = append(left, client.ObjectKeyFromObject(&secrets.Items[i]).String())
			}
		}
		if secrets.Continue == "" {
			break
		}
	}
	if len(left) == 0 {
		key := memoryKey{tenant: client.ObjectKeyFromObject(s.tenant), task: taskTokens}
		r.memory.note(key, []string{string(public)}, s.now.Add(resyncEvery))
		s.due(s.now)
		return nil
	}
	s.due(s.now.Add(lookAtNodes))
	s.rotation.waits[pki.ServiceAccount] = fmt.Sprintf("%d Secrets in the tenant have tokens of the former key: %s; delete them, or their data.token, in whose place another one is made; or annotate Secret %s with %s=%s",
		len(left), strings.Join(left[:min(len(left), namedTokens)], ", "), desired.Name(s.tenant, pki.ServiceAccount), kamajiv1alpha1.RetireAnnotation, kamajiv1alpha1.RetireNow)
	return nil
}
