// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/pki"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/remote"
)

const (
	// lookAtNodes is how often nodes are asked about during a rotation. Requests for
	// certificates are kept for an hour after they were granted.
	lookAtNodes = time.Minute
	// pageOfNodes bounds one answer.
	pageOfNodes = 500
	// namedNodes is how many nodes a condition names.
	namedNodes = 10
)

// witness looks for proof that nodes trust the authority that signs now, and notes it on them.
//
// A kubelet never changes what it trusts: that comes from the document it joined
// with. So a node is over when it has joined since both were in that document. The
// proof is its request for a certificate: made with a bootstrap token, not with a
// certificate from before, and granted with one of the new authority. Requests
// disappear after an hour, hence the annotation. A renewed certificate proves
// nothing.
func (r *Reconciler) witness(ctx context.Context, s *scope, tenant *remote.Tenant) error {
	signer := s.secrets[pki.CA][pki.SignerFile]
	fingerprint := pki.Fingerprint(signer)
	left, err := r.unproven(ctx, tenant.Client, fingerprint)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		if left, err = r.prove(ctx, tenant.Client, left, signer, fingerprint); err != nil {
			return err
		}
	}
	s.due(s.now.Add(lookAtNodes))
	if len(left) == 0 {
		key := memoryKey{tenant: client.ObjectKeyFromObject(s.tenant), task: taskNodes}
		r.memory.note(key, []string{string(signer)}, s.now.Add(resyncEvery))
		s.due(s.now)
		return nil
	}
	named := left[:min(len(left), namedNodes)]
	s.rotation.waits[pki.CA] = fmt.Sprintf("%d nodes have not joined since and trust the former one only: %s; replace them, or annotate Secret %s-%s with %s=%s",
		len(left), strings.Join(named, ", "), s.tenant.Name, pki.CA, kamajiv1alpha1.RetireAnnotation, kamajiv1alpha1.RetireNow)
	return nil
}

// unproven are the names of nodes without the annotation, sorted.
func (r *Reconciler) unproven(ctx context.Context, tenant client.Client, fingerprint string) ([]string, error) {
	var out []string
	nodes := &metav1.PartialObjectMetadataList{}
	nodes.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NodeList"))
	for {
		if err := tenant.List(ctx, nodes, client.Limit(pageOfNodes), client.Continue(nodes.Continue)); err != nil {
			return nil, fmt.Errorf("listing the tenant's nodes: %w", err)
		}
		for i := range nodes.Items {
			if nodes.Items[i].Annotations[kamajiv1alpha1.AuthorityAnnotation] != fingerprint {
				out = append(out, nodes.Items[i].Name)
			}
		}
		if nodes.Continue == "" {
			slices.Sort(out)
			return out, nil
		}
	}
}

// prove annotates those of the nodes that have joined with the signer, and returns the others.
func (r *Reconciler) prove(ctx context.Context, tenant client.Client, nodes []string, signer []byte, fingerprint string) ([]string, error) {
	requests := &certificatesv1.CertificateSigningRequestList{}
	if err := tenant.List(ctx, requests, client.MatchingFields{"spec.signerName": certificatesv1.KubeAPIServerClientKubeletSignerName}); err != nil {
		return nil, fmt.Errorf("listing the tenant's certificate requests: %w", err)
	}
	joined := map[string]bool{}
	for i := range requests.Items {
		request := &requests.Items[i]
		if strings.HasPrefix(request.Spec.Username, bootstrapapi.BootstrapUserPrefix) {
			if name, ok := strings.CutPrefix(pki.SignedFor(signer, request.Status.Certificate), "system:node:"); ok {
				joined[name] = true
			}
		}
	}
	patch := client.RawPatch("application/merge-patch+json",
		fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, kamajiv1alpha1.AuthorityAnnotation, fingerprint))
	var left []string
	for _, name := range nodes {
		if !joined[name] {
			left = append(left, name)
			continue
		}
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := tenant.Patch(ctx, node, patch, client.FieldOwner(FieldOwner)); err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("noting the authority of node %s: %w", name, err)
		}
	}
	return left, nil
}
