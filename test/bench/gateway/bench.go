// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/command"
	"github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji/test/lab/progress"
)

// The proxies, as they are called in figures.
const (
	ours    = "kamaji-gateway"
	haproxy = "haproxy"
	nginx   = "nginx"
)

// bench is one run.
type bench struct {
	ctx   context.Context
	log   *progress.Log
	dir   string
	scale scale

	program string // ours
	hello   []byte
	backend netip.AddrPort
	order   []string
	proxies map[string]*proxy
	closers []func()
}

// proxy is a running one.
type proxy struct {
	*process
	addr netip.AddrPort
	stop func()
}

// port on which every proxy listens, each on an address of its own.
const port = 16443

func (b *bench) build() error {
	b.program = filepath.Join(b.dir, "kamaji-gateway")
	if err := b.log.Step("building kamaji-gateway", func() error {
		return command.Run(b.ctx, "go", "build", "-trimpath", "-o", b.program, "./cmd/kamaji-gateway")
	}); err != nil {
		return err
	}
	var err error
	if b.hello, err = first(hostName(0)); err != nil {
		return err
	}
	to, stop, err := backend(len(b.hello))
	if err != nil {
		return err
	}
	b.backend = to
	b.closers = append(b.closers, stop)
	return nil
}

func (b *bench) close() {
	b.stopProxies()
	for _, f := range b.closers {
		f()
	}
	_ = os.RemoveAll(b.dir)
}

// hostName is the name of a tenant. All have the same length, and so have all ClientHellos, which the backend relies on.
func hostName(i int) string { return fmt.Sprintf("tenant-%05d.k8s.example.com", i) }

func (b *bench) startProxies() error {
	b.order, b.proxies = []string{ours, haproxy, nginx}, map[string]*proxy{}
	for _, name := range b.order {
		if err := b.restart(name); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) stopProxies() {
	for _, p := range b.proxies {
		p.stop()
	}
	b.proxies = nil
}

// restart replaces a proxy by a fresh process.
func (b *bench) restart(name string) error {
	if old := b.proxies[name]; old != nil {
		old.stop()
	}
	delete(b.proxies, name)
	var p *proxy
	var err error
	switch name {
	case ours:
		var g *gateway
		if g, err = b.startGateway(b.scale.names, byPort); err == nil {
			p = &proxy{process: g.process, addr: g.public(), stop: g.stop}
		}
	case haproxy:
		p, err = b.startHAProxy()
	case nginx:
		p, err = b.startNginx()
	}
	if err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	b.proxies[name] = p
	if err := b.answers(p); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, p.complaint())
	}
	return nil
}

// answers waits until p leads to the backend.
func (b *bench) answers(p *proxy) error {
	return poll(b.ctx, "an answer", func() error {
		c, err := open(p.addr, b.hello)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

// haproxyConfig: names in a map, a backend each, keepalive and an access log as in ours.
const haproxyConfig = `
global
  nbthread 1
  maxconn 8500
  maxpipes 100
  log fd@1 format raw local0
defaults
  mode tcp
  log global
  option tcplog
  option tcpka
  option splice-auto
  timeout connect 1s
  timeout client 24h
  timeout server 24h
frontend public
  bind %[1]s
  tcp-request inspect-delay 5s
  tcp-request content accept if { req_ssl_hello_type 1 }
  use_backend %%[req.ssl_sni,lower,map(%[2]s)]
`

func (b *bench) startHAProxy() (*proxy, error) {
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.4"), port)
	names, config := filepath.Join(b.dir, "haproxy.map"), filepath.Join(b.dir, "haproxy.cfg")
	var lines, backends strings.Builder
	for i := range b.scale.names {
		fmt.Fprintf(&lines, "%s b%d\n", hostName(i), i)
		fmt.Fprintf(&backends, "backend b%d\n  server s %s\n", i, b.backend)
	}
	if err := os.WriteFile(names, []byte(lines.String()), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(config, []byte(fmt.Sprintf(haproxyConfig, addr, names)+backends.String()), 0o600); err != nil {
		return nil, err
	}
	p, err := start(b.dir, haproxy, nil, "haproxy", "-db", "-f", config)
	if err != nil {
		return nil, err
	}
	return &proxy{process: p, addr: addr, stop: p.stop}, nil
}

// nginxConfig is the same for nginx. "%[3]s" are lines of a map.
const nginxConfig = `
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
user root;
daemon off;
master_process off;
pid %[1]s/nginx.pid;
error_log stderr;
worker_rlimit_nofile 20000;
events { worker_connections 19000; }
stream {
  map_hash_max_size 65536;
  map_hash_bucket_size 128;
  log_format line '$time_iso8601 $remote_addr:$remote_port $ssl_preread_server_name $upstream_addr $bytes_sent $bytes_received $session_time $status';
  access_log /dev/null line;
  map $ssl_preread_server_name $tenant {
%[3]s  }
  server {
    listen %[2]s so_keepalive=60s:20s:3 backlog=4096;
    ssl_preread on;
    preread_timeout 5s;
    proxy_pass $tenant;
    proxy_connect_timeout 1s;
    proxy_timeout 24h;
    proxy_socket_keepalive on;
  }
}
`

func (b *bench) startNginx() (*proxy, error) {
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.5"), port)
	config := filepath.Join(b.dir, "nginx.conf")
	var lines strings.Builder
	for i := range b.scale.names {
		fmt.Fprintf(&lines, "    %s %s;\n", hostName(i), b.backend)
	}
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxConfig, b.dir, addr, lines.String()), 0o600); err != nil {
		return nil, err
	}
	p, err := start(b.dir, nginx, nil, "nginx", "-c", config)
	if err != nil {
		return nil, err
	}
	return &proxy{process: p, addr: addr, stop: p.stop}, nil
}
