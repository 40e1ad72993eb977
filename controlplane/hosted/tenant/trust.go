// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/desired"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/internal/phase"
)

// trustEvery is how long a change of the user's certificate authorities stays
// unnoticed. Their ConfigMap has no label of ours, so the cache can't have it; one
// request per tenant that uses the field is cheaper than all ConfigMaps in memory.
const trustEvery = 30 * time.Second

// trust is what the ConfigMaps with certificate authorities of users held last.
type trust struct {
	mu   sync.Mutex
	seen map[types.NamespacedName]trusted
}

type trusted struct {
	name, checksum string
	next           time.Time
}

func (t *trust) forget(tenant types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.seen, tenant)
}

// internalCAs is the checksum of the authorities that the user wants to be trusted,
// empty when there are none. Processes read them when they start.
func (r *Reconciler) internalCAs(ctx context.Context, s *scope) (string, error) {
	name := s.tenant.Spec.InternalCACertificatesConfigMap
	if name == nil {
		return "", nil
	}
	tenant := client.ObjectKeyFromObject(s.tenant)
	r.trust.mu.Lock()
	last := r.trust.seen[tenant]
	r.trust.mu.Unlock()
	if last.name == *name && s.now.Before(last.next) {
		s.due(last.next)
		return last.checksum, nil
	}
	authorities := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: s.tenant.Namespace, Name: *name}
	switch err := r.Live.Get(ctx, key, authorities); {
	case apierrors.IsNotFound(err):
		return "", phase.WaitFor(trustEvery, kamajiv1alpha1.InternalCAMissingReason,
			"there is no ConfigMap %s: create it, or correct spec.internalCACertificatesConfigMap", key)
	case err != nil:
		return "", fmt.Errorf("reading ConfigMap %s: %w", key, err)
	}
	content := map[string][]byte{}
	maps.Copy(content, authorities.BinaryData)
	for file, text := range authorities.Data {
		content[file] = []byte(text)
	}
	last = trusted{name: *name, checksum: desired.Checksum(content), next: s.now.Add(trustEvery)}
	r.trust.mu.Lock()
	defer r.trust.mu.Unlock()
	if r.trust.seen == nil {
		r.trust.seen = map[types.NamespacedName]trusted{}
	}
	r.trust.seen[tenant] = last
	s.due(last.next)
	return last.checksum, nil
}
