// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
)

// Reason says in one word why a store cannot be used. The values appear as
// condition reasons, so they are part of what users script against.
type Reason string

const (
	// ReasonUnreachable: no endpoint answered in time, or the store has no quorum.
	ReasonUnreachable Reason = "Unreachable"
	// ReasonTLSFailed: an endpoint answered, but one side rejected the other's certificate.
	ReasonTLSFailed Reason = "TLSFailed"
	// ReasonAuthDisabled: the store lets everybody read everything.
	ReasonAuthDisabled Reason = "AuthDisabled"
	// ReasonPermissionDenied: the administrator's identity may not administrate.
	ReasonPermissionDenied Reason = "PermissionDenied"
	// ReasonTaken: schema or user belong to another TenantControlPlane.
	ReasonTaken Reason = "SchemaTaken"
	// ReasonDriverNotSupported: this build has no driver of that name.
	ReasonDriverNotSupported Reason = "DriverNotSupported"
	// ReasonInvalid: a field of the configuration or of the tenant cannot be right.
	ReasonInvalid Reason = "InvalidConfiguration"
	// ReasonMissingSecret: a referenced Secret, or the key in it, does not exist.
	ReasonMissingSecret Reason = "MissingSecret"
	// ReasonInternal: the store answered with an error that is none of the above.
	ReasonInternal Reason = "StoreError"
)

// Error is the only error type that leaves a driver.
type Error struct {
	Reason  Reason
	Message string
	// Err is the cause, nil when the driver itself decided.
	Err error
}

// Error returns the message followed by the cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Permanent is true when only a changed configuration can help, so that
// retrying is of no use.
func (e *Error) Permanent() bool {
	switch e.Reason {
	case ReasonTaken, ReasonDriverNotSupported, ReasonInvalid:
		return true
	default:
		return false
	}
}

// Errorf makes an Error without a cause.
func Errorf(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// ReasonOf returns the reason of the first Error in err's chain, and
// ReasonInternal for every other error.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ReasonInternal
}

// IsPermanent reports whether retrying cannot help.
func IsPermanent(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Permanent()
}

// IsTLS reports whether TLS, and not the network, is what made a connection fail.
func IsTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if alert, ok := errors.AsType[*net.OpError](err); ok {
		return strings.Contains(alert.Error(), "tls:")
	}
	return false
}
