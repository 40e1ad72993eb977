// SPDX-License-Identifier: Apache-2.0

package route

import (
	"fmt"
	"strconv"
	"strings"
)

// Listener is one of the two addresses of a gateway. Its value is also the name of the xDS listener.
type Listener string

const (
	// Public serves customers: tenants are told apart by host name only.
	Public Listener = "public"
	// Private serves workers: by host name on the shared port, and by destination port for clients that send no host name.
	Private Listener = "private"
)

// ALPNKonnectivity is the protocol name that konnectivity agents offer besides h2 (flag --alpn-proto). A connection that
// offers it belongs to the tenant's konnectivity-server, any other to its kube-apiserver.
const ALPNKonnectivity = "konnectivity"

const (
	separator = "|"
	kindSNI   = "sni"
	kindPort  = "port"
)

// Key says which connections a route is for. Exactly one of Host and Port is set.
type Key struct {
	Listener Listener
	// Host is the normalized name of the TLS server name indication (see NormalizeHost).
	Host string
	// Port is the destination port, for connections to a tenant's own port; their server name plays no part.
	Port uint16
	// Konnectivity is true for connections that offer ALPNKonnectivity.
	Konnectivity bool
}

// HostKey is the key of connections that name their tenant by the server name host, which must be normalized.
func HostKey(l Listener, host string, konnectivity bool) Key {
	return Key{Listener: l, Host: host, Konnectivity: konnectivity}
}

// PortKey is the key of connections to a tenant's own port on the private address.
func PortKey(port uint16, konnectivity bool) Key {
	return Key{Listener: Private, Port: port, Konnectivity: konnectivity}
}

// String is the name of the route's xDS cluster: <listener>|sni|<host> or private|port|<port>, followed by |konnectivity
// for connections that offer ALPNKonnectivity. The prefix keeps a name chosen by a client from ever being the name of
// another kind of cluster; "|" can't be in a host name.
func (k Key) String() string {
	if k.Port != 0 {
		return join(k.Listener, kindPort, strconv.Itoa(int(k.Port)), k.Konnectivity)
	}
	return join(k.Listener, kindSNI, k.Host, k.Konnectivity)
}

// HostKeyFormat is the name of a HostKey with format, an operator that a proxy replaces by the server name, in place of the host.
func HostKeyFormat(l Listener, format string, konnectivity bool) string {
	return join(l, kindSNI, format, konnectivity)
}

// PortKeyFormat is the name of a PortKey with format, an operator that a proxy replaces by the port, in place of the port.
func PortKeyFormat(format string, konnectivity bool) string {
	return join(Private, kindPort, format, konnectivity)
}

func join(l Listener, kind, value string, konnectivity bool) string {
	name := string(l) + separator + kind + separator + value
	if konnectivity {
		name += separator + ALPNKonnectivity
	}
	return name
}

// ParseKey is the inverse of String. It fails for a name that String can't yield, so that a data plane ignores clusters
// of kinds it doesn't know.
func ParseKey(name string) (Key, error) {
	parts := strings.Split(name, separator)
	konnectivity := len(parts) == 4 && parts[3] == ALPNKonnectivity
	if len(parts) != 3 && !konnectivity {
		return Key{}, fmt.Errorf("%q is not the name of a route", name)
	}
	l := Listener(parts[0])
	if l != Public && l != Private {
		return Key{}, fmt.Errorf("%q names no listener of a gateway", name)
	}
	switch {
	case parts[1] == kindSNI:
		host, err := NormalizeHost(parts[2])
		if err != nil || host != parts[2] {
			return Key{}, fmt.Errorf("%q holds no normalized host name", name)
		}
		return HostKey(l, host, konnectivity), nil
	case parts[1] == kindPort && l == Private:
		port, err := strconv.ParseUint(parts[2], 10, 16)
		if err != nil || port == 0 || strconv.FormatUint(port, 10) != parts[2] {
			return Key{}, fmt.Errorf("%q holds no port", name)
		}
		return PortKey(uint16(port), konnectivity), nil
	}
	return Key{}, fmt.Errorf("%q is not the name of a route", name)
}
