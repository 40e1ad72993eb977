// SPDX-License-Identifier: Apache-2.0

// Package activator answers for the API servers of tenants that sleep. Gateways lead connections to it while a tenant with
// spec.controlPlane.kamajiGateway.wake has no API server that takes any.
//
//	ClientHello   its server name picks the tenant, whose own serving certificate is shown
//	request       a certificate of the tenant's authority or a token of one of its ServiceAccounts says who asks
//	answer        401 to everybody else, with nothing read or written; 503 with Retry-After to who may wake the tenant
//	waking        the annotation awake-until, which the engine follows
//
// It serves one request for each connection, so that the next one goes to the API server as soon as there is one. Every replica of
// the manager has one: nothing is remembered that another would have to know.
package activator
