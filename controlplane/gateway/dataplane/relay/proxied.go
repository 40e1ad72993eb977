// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"errors"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/proxyproto"
)

// unwrap takes the PROXY protocol header off the first bytes of c, of which n are new. It returns false while more is needed, else
// how many bytes follow the header.
func (l *loop) unwrap(c *conn, n int) (bool, int) {
	c.hello.Hold(n)
	size, client, err := proxyproto.Parse(c.hello.Bytes())
	switch {
	case errors.Is(err, proxyproto.ErrIncomplete) && len(c.hello.Free()) > 0:
		return false, 0
	case err != nil:
		l.refuse(c, &Refusal{Reason: BadProxyHeader})
		return true, 0
	}
	c.proxied = false
	if client.IsValid() { // else the load balancer speaks for itself, as its health checks do
		c.via, c.remote = c.remote.Addr(), client
	}
	return true, c.hello.Drop(size)
}
