// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

// Error codes of PostgreSQL that decide something here.
const (
	codeInvalidPassword   = "28P01"
	codeDuplicateObject   = "42710"
	codeDuplicateDatabase = "42P04"
	codeUniqueViolation   = "23505"
	codeReadOnly          = "25006"
)

// code is the error code of the server, empty when the error is not the server's.
func code(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// routine is the function of the server that failed: unlike the message, it is
// not translated.
func routine(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Routine
	}
	return ""
}

// explain turns what the client returned into an error with a reason.
func (d *driver) explain(err error, doing string) error {
	if known, ok := errors.AsType[*storage.Error](err); ok {
		return known
	}
	reason := storage.ReasonInternal
	switch c := code(err); {
	case storage.IsTLS(err), strings.Contains(err.Error(), "server refused TLS connection"):
		reason = storage.ReasonTLSFailed
	case strings.HasPrefix(c, "28"), c == "42501":
		reason = storage.ReasonPermissionDenied
	// Too many connections, shutting down, starting up, a standby.
	case strings.HasPrefix(c, "53"), strings.HasPrefix(c, "57"), c == codeReadOnly:
		reason = storage.ReasonUnreachable
	case c != "", errors.Is(err, pgx.ErrNoRows), errors.Is(err, context.Canceled):
	default:
		reason = storage.ReasonUnreachable
	}
	return &storage.Error{Reason: reason, Message: "PostgreSQL of DataStore " + d.config.Name + ": " + doing, Err: err}
}
