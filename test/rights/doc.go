// SPDX-License-Identifier: Apache-2.0

// Package rights runs the control-plane manager as it is installed: the program itself, with the token of its
// ServiceAccount and the roles of config/. A request that is refused fails the test, so that no right is missing.
package rights
