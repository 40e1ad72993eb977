// SPDX-License-Identifier: Apache-2.0

package route

import (
	"fmt"
	"net/url"
	"strings"
)

// identityPrefix is the trust domain and path under which data planes have their identities.
const identityPrefix = "spiffe://kamaji/gateway/"

// NodeID is the xDS node.id of one instance of a gateway's data plane: <gateway>/<instance>. The instance is any name that tells
// instances apart in logs, such as the node's name; without one the node.id is the gateway's name alone.
func NodeID(gateway, instance string) string {
	if instance == "" {
		return gateway
	}
	return gateway + "/" + instance
}

// GatewayOf is the gateway that a node.id belongs to.
func GatewayOf(nodeID string) (string, error) {
	gateway, _, _ := strings.Cut(nodeID, "/")
	if gateway == "" {
		return "", fmt.Errorf("node.id %q is not <gateway>/<instance>", nodeID)
	}
	return gateway, nil
}

// Identity is the URI in the certificates of a gateway's data planes.
func Identity(gateway string) string { return identityPrefix + gateway }

// GatewayOfIdentity is the gateway that a certificate's URIs name: the first one that Identity can yield.
func GatewayOfIdentity(uris []*url.URL) (string, error) {
	for _, u := range uris {
		if gateway, ok := strings.CutPrefix(u.String(), identityPrefix); ok && gateway != "" && !strings.Contains(gateway, "/") {
			return gateway, nil
		}
	}
	return "", fmt.Errorf("certificate has no URI %s<gateway>", identityPrefix)
}
