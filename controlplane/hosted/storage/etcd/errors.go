// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/hosted/storage"
)

// dialTimeout bounds the diagnosis of one endpoint.
const dialTimeout = 2 * time.Second

// explain turns what the client returned into an error with a reason. gRPC
// reports every failure to connect as Unavailable or as a deadline, so for
// those the endpoints are dialled once more to see what is wrong with them.
func (d *driver) explain(err error, doing string) error {
	fail := func(reason storage.Reason, cause error) error {
		return &storage.Error{Reason: reason, Message: "etcd of DataStore " + d.config.Name + ": " + doing, Err: cause}
	}
	switch {
	case errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrUserNotFound),
		errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrAuthFailed), errors.Is(err, rpctypes.ErrInvalidAuthToken):
		return fail(storage.ReasonPermissionDenied, errors.Join(err,
			errors.New("the client certificate's common name "+d.admin+" must be an etcd user with role root")))
	case errors.Is(err, context.Canceled):
		return fail(storage.ReasonInternal, err)
	case errors.Is(err, context.DeadlineExceeded), unavailable(err):
		reason, cause := d.diagnose()
		if cause == nil {
			// Endpoints answer, requests don't: no leader.
			return fail(storage.ReasonUnreachable, errors.Join(err, errors.New("the endpoints accept connections but the cluster does not answer; has it lost its quorum?")))
		}
		return fail(reason, cause)
	default:
		return fail(storage.ReasonInternal, err)
	}
}

func unavailable(err error) bool {
	if s, ok := status.FromError(err); ok {
		return s.Code() == codes.Unavailable || s.Code() == codes.DeadlineExceeded
	}
	e, ok := errors.AsType[rpctypes.EtcdError](err)
	return ok && e.Code() == codes.Unavailable
}

// diagnose dials every endpoint. It returns nil when at least one is fine,
// since etcd forwards requests to whichever member leads.
func (d *driver) diagnose() (storage.Reason, error) {
	reason, all := storage.ReasonUnreachable, []error{}
	for _, endpoint := range d.config.Endpoints {
		ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
		err := dial(ctx, endpoint, d.tls)
		cancel()
		if err == nil {
			return "", nil
		}
		if storage.IsTLS(err) {
			reason = storage.ReasonTLSFailed
		}
		all = append(all, errors.New(endpoint+": "+err.Error()))
	}
	return reason, errors.Join(all...)
}

// http2Preface is what an HTTP/2 client sends first (RFC 9113 §3.4), followed
// by an empty SETTINGS frame. A server that accepts our certificate answers; one
// that does not sends its alert only now, because in TLS 1.3 the client
// finishes the handshake before the server has seen the certificate.
const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

func dial(ctx context.Context, endpoint string, config *tls.Config) error {
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, http2Preface); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}
