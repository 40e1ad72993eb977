// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/activator/credentials"
	kamajiv1alpha1 "github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/api/kamaji/v1alpha1"
)

// answer is what a client is told.
type answer struct {
	result string
	code   int
	// text is for people.
	text string
	// again is when to ask again, in seconds, 0 for not by itself.
	again int
}

const (
	textUnauthorized = "Unauthorized: this control plane sleeps, and is woken by a client certificate of its authority, or by a ServiceAccount token that expires"
	textWaking       = "the control plane sleeps and is being woken: it answers in some seconds"
	textStays        = "the control plane sleeps, and does so until somebody uses it: parts of the cluster and Cluster API don't wake it"
	textShut         = "the control plane sleeps and can't be woken: it is paused or being deleted"
	textFailed       = "the control plane sleeps and can't be woken at the moment"
)

// ServeHTTP answers a request to a tenant that has no API server at the moment. Nothing in the request matters but who sends it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := s.answer(r.Context(), r, time.Now())
	requests.WithLabelValues(a.result).Inc()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Connection", "close")
	if a.again > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(a.again))
	}
	w.WriteHeader(a.code)
	// Whoever doesn't wait for the answer doesn't need it.
	_ = json.NewEncoder(w).Encode(a.status())
}

// status is the answer as Kubernetes clients expect it.
func (a answer) status() metav1.Status {
	out := metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: int32(a.code), Message: a.text,
		Reason: metav1.StatusReasonServiceUnavailable,
	}
	if a.code == http.StatusUnauthorized {
		out.Reason = metav1.StatusReasonUnauthorized
	}
	if a.again > 0 {
		out.Details = &metav1.StatusDetails{RetryAfterSeconds: int32(a.again)}
	}
	return out
}

func (s *Server) answer(ctx context.Context, r *http.Request, now time.Time) answer {
	unauthorized := answer{resultUnauthorized, http.StatusUnauthorized, textUnauthorized, 0}
	failed := answer{resultFailed, http.StatusServiceUnavailable, textFailed, 2}
	tenant, user, err := s.who(ctx, r, now)
	if err != nil {
		return unauthorized
	}
	how := stateOf(tenant, now)
	switch {
	case how == waking:
		return answer{resultWaits, http.StatusServiceUnavailable, textWaking, retryAfter(tenant, now)}
	case how == shut:
		return answer{resultStaysAsleep, http.StatusServiceUnavailable, textShut, 0}
	case user.Machine(), clusterAPI(r):
		return answer{resultStaysAsleep, http.StatusServiceUnavailable, textStays, 0}
	}
	wrote, busy, err := s.wake(ctx, tenant, user, now)
	switch {
	case err != nil:
		log.FromContext(ctx).Error(err, "a client could not wake a tenant")
		return failed
	case busy:
		return failed
	case wrote:
		return answer{resultWoken, http.StatusServiceUnavailable, textWaking, 1}
	}
	return answer{resultWaits, http.StatusServiceUnavailable, textWaking, 1}
}

// who is the client, and of which tenant. Each of the things it presents may prove it, as for an API server.
func (s *Server) who(ctx context.Context, r *http.Request, now time.Time) (*kamajiv1alpha1.TenantControlPlane, credentials.User, error) {
	none := credentials.User{}
	token := bearer(r)
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 && token == "" {
		return nil, none, errors.New("no credentials")
	}
	// The tenant that has the name now is also the one that the client is verified for, whoever had it during the handshake.
	tenant, err := s.named(ctx, r.TLS.ServerName)
	if err != nil {
		return nil, none, err
	}
	trust, err := s.trust(ctx, tenant)
	if err != nil {
		return nil, none, err
	}
	user, err := trust.Certificate(r.TLS.PeerCertificates, now)
	if err != nil && token != "" {
		user, err = trust.Token(token, now)
	}
	return tenant, user, err
}

// bearer is the token in a request, empty without one.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// clusterAPI tells whether the request is one of Cluster API's controllers, which have the kubeconfig of an administrator and look after
// each Cluster all the time. They say who they are in the User-Agent; who pretends to be one wakes nothing.
func clusterAPI(r *http.Request) bool {
	return strings.Contains(r.UserAgent(), " cluster.x-k8s.io/")
}
