// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/activator/credentials"
	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// FieldOwner is the field manager of the annotation.
const FieldOwner = "kamaji-activator"

const (
	// cacheLag is how long the cache may not know yet what this process has written. Afterwards the object alone counts: whoever
	// takes the annotation off wants the tenant to sleep.
	cacheLag = 5 * time.Second
	// wakesPerSecond bounds what this process writes for all tenants together, with a burst as for connections. What starts at once is the
	// engine's own limit.
	wakesPerSecond = 10
	// maxName is how much of a user's name is told, in bytes: it may be anything that the tenant's administrators come up with.
	maxName = 128
)

// state is how a tenant stands to being woken.
type state int

const (
	// asleep: waking it means writing the annotation.
	asleep state = iota
	// waking: its pods are wanted already.
	waking
	// shut: nothing that is written would wake it.
	shut
)

// stateOf tells how a tenant stands. A wake that has been asked for isn't asked for again before half of its time is over: by then
// the pods have not come up for long, and are wanted all the same.
func stateOf(tenant *kamajiv1alpha1.TenantControlPlane, now time.Time) state {
	_, paused := tenant.Annotations[kamajiv1alpha1.PausedAnnotation]
	switch {
	case !tenant.DeletionTimestamp.IsZero():
		return shut
	case tenant.Replicas() > 0, tenant.AwakeUntil().Sub(now) >= tenant.WakeFor()/2:
		return waking
	case paused:
		return shut
	}
	return asleep
}

// retryAfter is when to ask again, in seconds: soon after the wake, so that who comes first waits little, and then less often, so that
// the ten attempts that clients make by themselves last for half a minute.
func retryAfter(tenant *kamajiv1alpha1.TenantControlPlane, now time.Time) int {
	const least, most = 1, 5
	began := tenant.AwakeUntil().Add(-tenant.WakeFor())
	return int(min(max(now.Sub(began)/(2*time.Second), least), most))
}

// wakes keeps one process from writing the same wake several times.
type wakes struct {
	mu    sync.Mutex
	all   bucket
	asked map[types.UID]time.Time
}

// ask tells whether the caller is to write a wake, and notes that it does.
func (w *wakes) ask(tenant types.UID, now time.Time) (write, busy bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for uid, when := range w.asked {
		if now.Sub(when) > cacheLag {
			delete(w.asked, uid)
		}
	}
	if _, ok := w.asked[tenant]; ok {
		return false, false
	}
	if _, ok := w.all.take(wakesPerSecond, 0, now); !ok {
		return false, true
	}
	if w.asked == nil {
		w.asked = map[types.UID]time.Time{}
	}
	w.asked[tenant] = now
	return true, false
}

// failed lets the next one write.
func (w *wakes) failed(tenant types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.asked, tenant)
}

// wake has the tenant woken, once for all that ask at the same time. It tells whether it has written that, and whether there is
// too much to write at the moment.
func (s *Server) wake(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane, user credentials.User, now time.Time) (wrote, busy bool, err error) {
	if wrote, busy = s.wakes.ask(tenant.UID, now); !wrote {
		return false, busy, nil
	}
	until := now.Add(tenant.WakeFor()).UTC().Format(time.RFC3339)
	name := user.Name[:min(len(user.Name), maxName)]
	log.FromContext(ctx).Info("waking", "tenant", client.ObjectKeyFromObject(tenant), "kind", user.Kind, "user", name, "until", until)
	if err := s.write(ctx, tenant, until); err != nil {
		s.wakes.failed(tenant.UID)
		return false, false, err
	}
	s.recorder.Eventf(tenant, nil, corev1.EventTypeNormal, "Woken", "Wake", "woken by %q with a %s; awake until %s", name, user.Kind, until)
	return true, false, nil
}

// write sets the annotation, of this very object and not of one that has taken its name.
func (s *Server) write(ctx context.Context, tenant *kamajiv1alpha1.TenantControlPlane, until string) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": tenant.UID, "annotations": map[string]string{kamajiv1alpha1.AwakeUntilAnnotation: until},
	}})
	if err != nil {
		return err
	}
	sent := &kamajiv1alpha1.TenantControlPlane{}
	sent.Namespace, sent.Name = tenant.Namespace, tenant.Name
	if err := s.client.Patch(ctx, sent, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(FieldOwner)); err != nil {
		return fmt.Errorf("waking TenantControlPlane %s: %w", client.ObjectKeyFromObject(tenant), err)
	}
	return nil
}
