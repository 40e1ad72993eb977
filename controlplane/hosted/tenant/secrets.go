// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/kubeconfig"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
)

// generated are the Secrets whose contents cannot be worked out again.
var generated = []string{
	pki.CA, pki.FrontProxyCA, pki.ServiceAccount, pki.APIServer, pki.APIServerKubeletClient,
	pki.FrontProxyClient, pki.Konnectivity, pki.Metrics, pki.DataStore, desired.StorageConfig,
	kubeconfig.Admin, kubeconfig.ControllerManager, kubeconfig.Scheduler, kubeconfig.Konnectivity,
}

// read fills in what the reader holds of the generated Secrets. They are read by
// name and not by label: a label that somebody has removed must not make an
// authority look as if it had never existed.
func (s *scope) read(ctx context.Context, reader client.Reader) error {
	secrets := make([]*corev1.Secret, len(generated))
	errs := make([]error, len(generated))
	var wg sync.WaitGroup
	for i, name := range generated {
		wg.Go(func() {
			secret := &corev1.Secret{}
			key := client.ObjectKey{Namespace: s.tenant.Namespace, Name: desired.Name(s.tenant, name)}
			switch err := reader.Get(ctx, key, secret); {
			case err == nil:
				secrets[i] = secret
			case !apierrors.IsNotFound(err):
				errs[i] = fmt.Errorf("reading Secret %s: %w", key, err)
			}
		})
	}
	wg.Wait()
	s.existing, s.rotate, s.rotated = map[string]map[string][]byte{}, map[string]bool{}, map[string]string{}
	s.retire, s.retired = map[string]string{}, map[string]string{}
	s.keep, s.since = map[string]string{}, map[string]string{}
	for i, secret := range secrets {
		if secret != nil {
			s.take(generated[i], secret)
		}
	}
	return errors.Join(errs...)
}

func (s *scope) take(name string, secret *corev1.Secret) {
	s.existing[name] = secret.Data
	switch retire := secret.Annotations[kamajiv1alpha1.RetireAnnotation]; retire {
	case "":
	case kamajiv1alpha1.RetireNow, kamajiv1alpha1.RetireHold:
		s.retire[name] = retire
	default:
		s.retired[name] = retire
	}
	if keep, ok := secret.Annotations[kamajiv1alpha1.RetireAfterAnnotation]; ok {
		s.keep[name] = keep
	}
	if since := secret.Annotations[kamajiv1alpha1.RetiringSinceAnnotation]; since != "" {
		s.since[name] = since
	}
	asked, ok := secret.Annotations[kamajiv1alpha1.RotateAnnotation]
	switch {
	case !ok:
	case asked != "":
		s.rotated[name] = asked
	case name == kubeconfig.Konnectivity:
		// What is secret in it is the certificate of another Secret.
		s.rotate[name], s.rotate[pki.Konnectivity] = true, true
	default:
		s.rotate[name] = true
	}
}

// generate runs issue, which says whether it had to make something new out of
// s.existing. If so, what exists is read from the API server and issue runs
// again: the cache may not know yet what the last pass has written, and a key
// that is overwritten is lost for good.
func (r *Reconciler) generate(ctx context.Context, s *scope, issue func() (changed bool, err error)) error {
	changed, err := issue()
	if err != nil || !changed || s.confirmed {
		return err
	}
	if err := s.read(ctx, s.live); err != nil {
		return err
	}
	s.confirmed = true
	_, err = issue()
	return err
}
