// SPDX-License-Identifier: Apache-2.0

// Package server serves the xDS resources of all gateways to their data planes: State holds them, Server speaks delta ADS over mutual
// TLS, and the feed in feed.go keeps State equal to what informers see. Every replica of the manager serves, leader or not: a data
// plane that restarts while a leader is being elected must still get its routes.
package server
