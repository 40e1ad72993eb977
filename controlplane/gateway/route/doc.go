// SPDX-License-Identifier: Apache-2.0

// Package route is the pure model of what a gateway does with a connection: which listener it came in on, how it names
// its tenant (host name or port), and which backends serve it. It knows no network and no Kubernetes, so the control plane,
// which generates routes, and the data plane, which looks them up, share it.
//
// The key of a route (Key) is also the name of the xDS cluster that serves it; see package xds for the whole contract.
package route
