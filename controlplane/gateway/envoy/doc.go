// SPDX-License-Identifier: Apache-2.0

// Package envoy makes Envoy the data plane of a gateway: the bootstrap file that has it follow the control plane (Config), and what it
// lacks beside it on its node (Companion): the redirect that brings tenant ports to the private listener, health and metrics without
// Envoy's administration interface, and draining before it ends. What Envoy does with connections is in package xds.
package envoy
