// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"log/slog"
	"net/netip"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/handover"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/dataplane/relay"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/controlplane/gateway/route"
)

// Kinds of listeners, as they are called in logs and metrics. All tenant ports are one kind, so that
// the number of metrics does not grow with tenants.
const (
	kindPublic     = string(route.Public)
	kindPrivate    = string(route.Private)
	kindTenantPort = "tenant-port"
	kindAddress    = "tenant-address"
)

// entrance is the tag of a listener: which names of routes it can lead to, and no others.
type entrance struct {
	kind string
	// hosts are what comes before and after the host name in the name of a route; without and with
	// ALPN konnectivity. Empty where connections are not told apart by name.
	prefix, suffix string
	// port names the two routes of a tenant port; empty for the others.
	port, konnectivityPort string
	// within is the network of the tenants' own addresses, on the listener that serves them; invalid for the others.
	within netip.Prefix
}

func hostEntrance(l route.Listener) *entrance {
	prefix := route.HostKeyFormat(l, "", false)
	return &entrance{kind: string(l), prefix: prefix, suffix: strings.TrimPrefix(route.HostKeyFormat(l, "", true), prefix)}
}

// entrance is that of a listener that the control plane named.
func (l *listeners) entrance(name route.Listener) *entrance {
	if name == route.Prefix {
		return &entrance{kind: kindAddress, within: l.prefix}
	}
	return hostEntrance(name)
}

func portEntrance(port uint16) *entrance {
	return &entrance{
		kind: kindTenantPort, port: route.PortKey(port, false).String(), konnectivityPort: route.PortKey(port, true).String(),
	}
}

// listeners keeps the relay listening where the configuration says. Its methods are called with
// Gateway.configMu held. An address that cannot be bound is tried again by retry.
type listeners struct {
	relay *relay.Relay
	log   *slog.Logger
	hold  bool // open nothing yet
	// inherited are the sockets of a predecessor that are not in use yet.
	inherited handover.Sockets
	// succeeded says whether another process has the sockets of this one, and opens the new ones: what both opened would have two
	// queues, and the one of this process is lost when it ends. May be nil.
	succeeded func() bool
	// public and private are the doors of the public listener, and of all others together.
	public, private *relay.Door

	shared map[route.Listener]netip.AddrPort
	prefix netip.Prefix                      // of the listener route.Prefix
	ports  map[uint16]map[route.Key]struct{} // the routes of each tenant port
	open   map[netip.AddrPort]*relay.Listener
	failed map[netip.AddrPort]*entrance // to be tried again
	// reported are those of failed whose error was logged.
	reported map[netip.AddrPort]bool
}

// listenerShare is the part of all connections that the public listener may have, and that the private one with the tenants' own ports
// may have: a crowd at the one leaves room at the other.
const listenerShare = 0.9

func newListeners(r *relay.Relay, log *slog.Logger) *listeners {
	return &listeners{
		relay: r, log: log, hold: true, public: relay.NewDoor(listenerShare), private: relay.NewDoor(listenerShare),
		shared: map[route.Listener]netip.AddrPort{}, ports: map[uint16]map[route.Key]struct{}{},
		open: map[netip.AddrPort]*relay.Listener{}, failed: map[netip.AddrPort]*entrance{}, reported: map[netip.AddrPort]bool{},
	}
}

// setShared moves the public or private listener to addr. The tenant ports go where the private one
// goes. The other listener loses addr if it has it: they may be about to swap addresses.
func (l *listeners) setShared(name route.Listener, addr netip.AddrPort, prefix netip.Prefix) {
	if name == route.Prefix && l.prefix != prefix {
		l.unsetShared(name)
		l.prefix = prefix
	}
	old := l.shared[name]
	if old == addr {
		return
	}
	for other, taken := range l.shared {
		if taken == addr {
			l.log.Warn("A listener takes the address of another", "address", addr, "listener", name, "other", other)
			l.unsetShared(other)
		}
	}
	if old.Addr() == addr.Addr() {
		l.stop(old)
	} else {
		l.unsetShared(name)
	}
	l.stop(addr) // a tenant port, when the shared port became the same
	l.shared[name] = addr
	l.start(addr, l.entrance(name))
	if name == route.Private {
		for port := range l.ports { // those that are open are left alone
			if port != addr.Port() {
				l.start(netip.AddrPortFrom(addr.Addr(), port), portEntrance(port))
			}
		}
	}
}

// unsetShared closes the public or private listener, the private one with its tenant ports.
func (l *listeners) unsetShared(name route.Listener) {
	addr, known := l.shared[name]
	if !known {
		return
	}
	delete(l.shared, name)
	l.stop(addr)
	if name == route.Private {
		for port := range l.ports {
			at := netip.AddrPortFrom(addr.Addr(), port)
			if l.shared[route.Public] != at { // which may have taken a tenant port's place already
				l.stop(at)
			}
		}
	}
}

// addPort opens the port of a route.
func (l *listeners) addPort(key route.Key) {
	if l.ports[key.Port] == nil {
		l.ports[key.Port] = map[route.Key]struct{}{}
	}
	l.ports[key.Port][key] = struct{}{}
	private, known := l.shared[route.Private]
	if known && key.Port != private.Port() {
		l.start(netip.AddrPortFrom(private.Addr(), key.Port), portEntrance(key.Port))
	}
}

// removePort closes the port of a route when no other route has it.
func (l *listeners) removePort(key route.Key) {
	delete(l.ports[key.Port], key)
	if len(l.ports[key.Port]) > 0 {
		return
	}
	delete(l.ports, key.Port)
	private, known := l.shared[route.Private]
	if known && key.Port != private.Port() {
		l.stop(netip.AddrPortFrom(private.Addr(), key.Port))
	}
}

// retry tries again what failed.
func (l *listeners) retry() {
	for addr, e := range l.failed {
		l.start(addr, e)
	}
}

func (l *listeners) start(addr netip.AddrPort, e *entrance) {
	if l.open[addr] != nil {
		return
	}
	if l.hold || l.succeeded != nil && l.succeeded() {
		l.failed[addr] = e
		return
	}
	options := relay.ListenOptions{Door: l.private, Anywhere: e.within.IsValid()}
	if e.kind == kindPublic {
		options.Door = l.public
	}
	if fd, ok := l.inherited[addr]; ok {
		options.Socket = fd
		delete(l.inherited, addr)
	}
	listener, err := l.relay.Listen(addr, e, options)
	if err != nil {
		if !l.reported[addr] {
			l.log.Error("Cannot listen, will try again", "address", addr, "listener", e.kind, "error", err)
		}
		l.failed[addr], l.reported[addr] = e, true
		return
	}
	delete(l.failed, addr)
	delete(l.reported, addr)
	l.open[addr] = listener
}

// sockets are duplicates of all that are open.
func (l *listeners) sockets() (handover.Sockets, error) {
	out := handover.Sockets{}
	for addr, listener := range l.open {
		fd, err := l.relay.Duplicate(listener)
		if err != nil {
			out.Close()
			return nil, err
		}
		out[addr] = fd
	}
	return out, nil
}

func (l *listeners) stop(addr netip.AddrPort) {
	delete(l.failed, addr)
	delete(l.reported, addr)
	if listener := l.open[addr]; listener != nil {
		l.relay.Unlisten(listener)
		delete(l.open, addr)
	}
}
