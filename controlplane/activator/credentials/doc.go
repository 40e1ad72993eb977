// SPDX-License-Identifier: Apache-2.0

// Package credentials tells who a client of a tenant is while the tenant's API server doesn't run. It decides as that
// would, by the same certificates and keys, from what the client presents alone: nothing that is stored in the tenant
// can be looked at, so it can't know that an object behind a token was deleted.
//
// It is pure: no client, no clock.
package credentials
