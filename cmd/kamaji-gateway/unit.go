// SPDX-License-Identifier: Apache-2.0

package main

// unit is a systemd unit: user, program, bootstrap file, state directory, seconds to stop.
const unit = `[Unit]
Description=Gateway of tenant control planes
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
User=%s
ExecStart=%s run --bootstrap %s
Restart=always
RestartSec=1
ReadWritePaths=%s
TimeoutStopSec=%d
# Two per connection.
LimitNOFILE=1048576
# For a shared port below 1024; nothing else needs a privilege.
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
`
