// SPDX-License-Identifier: Apache-2.0

package nats

import (
	"context"
	"errors"
	"strings"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

// Error codes of JetStream that decide something here. They are in the server's
// list of errors; the client names only some of them.
const (
	codeNoPeers        = 10005
	codeUnavailable    = 10008
	codeNoResources    = 10023
	codeReplicasSingle = 10074
)

// denied tells whether the server refused who asked, not what was asked.
func denied(err error) bool {
	return errors.Is(err, client.ErrAuthorization) || errors.Is(err, client.ErrAuthExpired) || errors.Is(err, client.ErrAuthRevoked) ||
		errors.Is(err, client.ErrAccountAuthExpired) || errors.Is(err, client.ErrPermissionViolation) ||
		// What comes after the handshake is the text of the server alone.
		strings.Contains(strings.ToLower(err.Error()), "authorization violation")
}

// crowded tells whether a server takes no more connections of an account, as it
// does while all are to end.
func crowded(err error) bool {
	return strings.Contains(strings.ToLower(err.Error()), client.MAX_ACCOUNT_CONNECTIONS_ERR)
}

// explain turns what the client returned into an error with a reason.
func (d *driver) explain(err error, doing string) error {
	if known, ok := errors.AsType[*storage.Error](err); ok {
		return known
	}
	where := "NATS of DataStore " + d.config.Name + ": " + doing
	if errors.Is(err, client.ErrNoResponders) {
		return &storage.Error{Reason: storage.ReasonInvalid, Err: err,
			Message: where + ": the servers need an operator and a resolver of type full, and the user of spec.nats.systemCredentials must be in their system account"}
	}
	api, _ := errors.AsType[*jetstream.APIError](err)
	reason := storage.ReasonInternal
	switch {
	case storage.IsTLS(err), errors.Is(err, client.ErrSecureConnWanted):
		reason = storage.ReasonTLSFailed
	case denied(err):
		reason = storage.ReasonPermissionDenied
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		reason = storage.ReasonUnreachable
	case api != nil && (api.ErrorCode == codeNoPeers || api.ErrorCode == codeUnavailable || api.ErrorCode == codeNoResources || api.ErrorCode == codeReplicasSingle):
		reason, where = storage.ReasonUnreachable, where+": JetStream needs spec.nats.replicas servers, with room"
	case api != nil, errors.Is(err, context.Canceled):
	default:
		reason = storage.ReasonUnreachable
	}
	return &storage.Error{Reason: reason, Message: where, Err: err}
}

// refused is what a server said to a change of accounts.
func (d *driver) refused(description, doing string) error {
	reason, cure := storage.ReasonInternal, ""
	switch {
	case strings.Contains(description, "delete must be enabled"):
		reason, cure = storage.ReasonInvalid, ": set allow_delete: true in its resolver"
	case strings.Contains(description, "not trusted"), strings.Contains(description, "to be a signing key"):
		reason, cure = storage.ReasonPermissionDenied, ": spec.nats.operatorSeed must be that of a signing key of its operator"
	}
	return storage.Errorf(reason, "NATS of DataStore %s: %s: %s%s", d.config.Name, doing, description, cure)
}
