// SPDX-License-Identifier: Apache-2.0

package main

// hardening is the part of [Service] that all units have.
const hardening = `NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
SystemCallArchitectures=native
`

// unit is a systemd unit: 1 user, 2 program, 3 bootstrap file, 4 state directory, 5 seconds to stop.
const unit = `[Unit]
Description=Gateway of tenant control planes
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
User=%[1]s
ExecStartPre=+/usr/bin/install -d -o %[1]s -m 0700 %[4]s
ExecStart=%[2]s run --bootstrap %[3]s
# Another process takes over the listening sockets: no connection attempt is lost, open connections may go on for drainSeconds.
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
ReadWritePaths=-%[4]s
TimeoutStopSec=%[5]d
# Two per connection.
LimitNOFILE=1048576
# For a shared port below 1024; nothing else needs a privilege.
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
` + hardening + `RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX

[Install]
WantedBy=multi-user.target
`

// envoyUnit is a systemd unit: 1 user, 2 folder of the administration socket in /run, 3 command, 4 seconds to stop.
const envoyUnit = `[Unit]
Description=Gateway of tenant control planes (Envoy)
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
User=%[1]s
RuntimeDirectory=%[2]s
ExecStart=%[3]s
Restart=always
RestartSec=1
# Envoy is ended by the companion, after it was drained.
KillMode=mixed
TimeoutStopSec=%[4]d
# Two per connection.
LimitNOFILE=1048576
# To redirect tenant ports, and for a shared port below 1024.
AmbientCapabilities=CAP_NET_ADMIN CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_BIND_SERVICE
` + hardening + `RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK

[Install]
WantedBy=multi-user.target
`
