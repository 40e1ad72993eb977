// SPDX-License-Identifier: Apache-2.0

package route

import (
	"fmt"
	"net/netip"
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
	// Prefix serves workers on the private addresses that are a tenant's own. Only a gateway with such addresses has it; keys of its
	// routes belong to Private, whose policy they share.
	Prefix Listener = "prefix"
)

// ALPNKonnectivity is the protocol name that konnectivity agents offer besides h2 (flag --alpn-proto). A connection that
// offers it belongs to the tenant's konnectivity-server, any other to its kube-apiserver.
const ALPNKonnectivity = "konnectivity"

const (
	separator = "|"
	kindSNI   = "sni"
	kindPort  = "port"
	kindIP    = "ip"
)

// Key says which connections a route is for. Exactly one of Host, Port and Address is set.
type Key struct {
	Listener Listener
	// Host is the normalized name of the TLS server name indication (see NormalizeHost).
	Host string
	// Port is the destination port, for connections to a tenant's own port; their server name plays no part.
	Port uint16
	// Address is the destination address, for connections to a tenant's own address; their server name plays no part.
	Address netip.Addr
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

// AddressKey is the key of connections to a tenant's own address on the shared port.
func AddressKey(address netip.Addr, konnectivity bool) Key {
	return Key{Listener: Private, Address: address, Konnectivity: konnectivity}
}

// String is the name of the route's xDS cluster: <listener>|sni|<host>, private|port|<port> or private|ip|<address>, followed by
// |konnectivity for connections that offer ALPNKonnectivity. The prefix keeps a name chosen by a client from ever being the name of
// another kind of cluster; "|" can't be in a host name.
func (k Key) String() string {
	switch {
	case k.Port != 0:
		return join(k.Listener, kindPort, strconv.Itoa(int(k.Port)), k.Konnectivity)
	case k.Address.IsValid():
		return join(k.Listener, kindIP, k.Address.String(), k.Konnectivity)
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

// AddressKeyFormat is the name of an AddressKey with format, an operator that a proxy replaces by the address, in place of the address.
func AddressKeyFormat(format string, konnectivity bool) string {
	return join(Private, kindIP, format, konnectivity)
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
	case parts[1] == kindIP && l == Private:
		address, err := netip.ParseAddr(parts[2])
		if err != nil || address.Zone() != "" || address.String() != parts[2] {
			return Key{}, fmt.Errorf("%q holds no IP address in its canonical form", name)
		}
		return AddressKey(address, konnectivity), nil
	}
	return Key{}, fmt.Errorf("%q is not the name of a route", name)
}
