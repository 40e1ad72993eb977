// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"
	"strings"

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
	pki.FrontProxyClient, pki.Konnectivity, pki.DataStore,
	kubeconfig.Admin, kubeconfig.ControllerManager, kubeconfig.Scheduler, kubeconfig.Konnectivity,
}

// readCached fills in what the cache holds of the generated Secrets.
func (r *Reconciler) readCached(ctx context.Context, s *scope) error {
	s.existing, s.rotate, s.rotated = map[string]map[string][]byte{}, map[string]bool{}, map[string]string{}
	for _, name := range generated {
		secret := &corev1.Secret{}
		key := client.ObjectKey{Namespace: s.tenant.Namespace, Name: desired.Name(s.tenant, name)}
		err := r.Client.Get(ctx, key, secret)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return fmt.Errorf("reading Secret %s: %w", key, err)
		default:
			s.take(name, secret)
		}
	}
	return nil
}

// readLive fills in what the API server holds of them, by one request.
func (r *Reconciler) readLive(ctx context.Context, s *scope) error {
	var secrets corev1.SecretList
	err := r.Live.List(ctx, &secrets, client.InNamespace(s.tenant.Namespace), client.MatchingLabels{
		kamajiv1alpha1.ProjectLabel: kamajiv1alpha1.ProjectLabelValue,
		kamajiv1alpha1.NameLabel:    s.tenant.Name,
	})
	if err != nil {
		return fmt.Errorf("listing the Secrets of TenantControlPlane %s: %w", client.ObjectKeyFromObject(s.tenant), err)
	}
	known := map[string]bool{}
	for _, name := range generated {
		known[name] = true
	}
	s.existing, s.rotate, s.rotated = map[string]map[string][]byte{}, map[string]bool{}, map[string]string{}
	for i := range secrets.Items {
		if name, ours := strings.CutPrefix(secrets.Items[i].Name, s.tenant.Name+"-"); ours && known[name] {
			s.take(name, &secrets.Items[i])
		}
	}
	return nil
}

func (s *scope) take(name string, secret *corev1.Secret) {
	s.existing[name] = secret.Data
	if asked, ok := secret.Annotations[kamajiv1alpha1.RotateAnnotation]; ok {
		if asked == "" {
			s.rotate[name] = true
		} else {
			s.rotated[name] = asked
		}
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
	if err := r.readLive(ctx, s); err != nil {
		return err
	}
	s.confirmed = true
	_, err = issue()
	return err
}
