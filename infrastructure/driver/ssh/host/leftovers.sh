# SPDX-License-Identifier: Apache-2.0
# What a cluster leaves on a host, in one place for the reset that removes it and the check that looks for it.
leftover_dirs='/etc/kubernetes /var/lib/kubelet /var/lib/etcd /etc/cni/net.d /var/lib/cni /run/kubeadm
/run/cluster-api /run/flannel /run/calico /var/lib/calico /run/cilium /var/log/pods /var/log/containers'
leftover_links='^(cni[0-9]+|flannel[.-].*|cilium_.*|vxlan\.calico|vxlan-v6\.calico|cali[0-9a-f]{11}|lxc[0-9a-f_].*|kube-ipvs0|kube-bridge|nodelocaldns)$'
leftover_chains='(KUBE-|CNI-|cali-|CILIUM_|FLANNEL-)'
leftover_tables='^table [a-z0-9]+ (kube-proxy|cilium.*|flannel.*|cni_.*|calico.*)'
leftover_sets='^(KUBE-|cali)'

# mounts_below DIR lists them, deepest first.
mounts_below() {
	while read -r _ point _; do
		case $point in "$1"/*) printf '%b\n' "$point" ;; esac
	done </proc/self/mounts | sort -r
}

links() {
	ip -o link show 2>/dev/null | sed -E 's/^[0-9]+: ([^:@]+)[:@].*/\1/' | grep -E "$leftover_links"
}

# firewalls lists the iptables flavours in use. The legacy ones only where their tables exist: listing would make them.
firewalls() {
	for f in iptables ip6tables iptables-nft ip6tables-nft; do
		command -v "$f-save" >/dev/null 2>&1 && echo "$f"
	done
	[ -s /proc/net/ip_tables_names ] && command -v iptables-legacy-save >/dev/null 2>&1 && echo iptables-legacy
	[ -s /proc/net/ip6_tables_names ] && command -v ip6tables-legacy-save >/dev/null 2>&1 && echo ip6tables-legacy
}

tables() {
	command -v nft >/dev/null 2>&1 && nft list tables 2>/dev/null | grep -E "$leftover_tables"
}

sets() {
	command -v ipset >/dev/null 2>&1 && ipset -n list 2>/dev/null | grep -E "$leftover_sets"
}

# runtimes lists the CRI sockets that exist.
runtimes() {
	command -v crictl >/dev/null 2>&1 || return 0
	for s in /run/containerd/containerd.sock /run/crio/crio.sock /run/cri-dockerd.sock; do
		[ -S "$s" ] && echo "unix://$s"
	done
}

# listening PORT tells whether any TCP socket listens on it, from the kernel's own table (state 0A).
listening() {
	hex=$(printf '%04X' "$1")
	cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -qE "^ *[0-9]+: [0-9A-F]+:$hex [0-9A-F]+:[0-9A-F]+ 0A "
}

finding() { printf 'finding=%s\n' "$*"; }

# verify prints a finding for everything that is left, except who holds the host.
verify() {
	# An enabled kubelet without configuration restarts for ever on a fresh host and is not a finding.
	[ -e /var/lib/kubelet/config.yaml ] && systemctl is-active -q kubelet && finding "kubelet is active"
	listening 10250 && finding "port 10250 is in use"
	for s in $(runtimes); do
		if pods=$(crictl -r "$s" pods -q 2>/dev/null); then
			[ -z "$pods" ] || finding "$(echo "$pods" | wc -l) pod sandboxes at $s"
		elif [ "$(systemctl is-active containerd crio cri-docker 2>/dev/null | grep -cx active)" -gt 0 ]; then
			finding "the container runtime at $s does not answer"
		fi
	done
	shims=$(grep -lE '^/?[^ ]*containerd-shim' /proc/[0-9]*/cmdline 2>/dev/null |
		while IFS= read -r f; do tr '\0' ' ' <"$f" 2>/dev/null | grep -F -- '-namespace k8s.io '; done | wc -l)
	[ "$shims" -eq 0 ] || finding "$shims containers of Kubernetes are running"
	for dir in $leftover_dirs; do
		below=$(mounts_below "$dir" | wc -l)
		[ "$below" -eq 0 ] || finding "$below mounts below $dir"
		# Packages ship empty directories; contents are what a cluster leaves.
		[ -d "$dir" ] && [ -n "$(find "$dir" -xdev -mindepth 1 ! -type d -print 2>/dev/null | head -n 1)" ] && finding "$dir is not empty"
	done
	found=$(links | tr '\n' ' ')
	[ -z "$found" ] || finding "network links: $found"
	for f in $(firewalls); do
		n=$("$f-save" 2>/dev/null | grep -cE "$leftover_chains")
		[ "$n" -eq 0 ] || finding "$n $f rules"
	done
	n=$(tables | wc -l)
	[ "$n" -eq 0 ] || finding "$n nftables tables"
	n=$(sets | wc -l)
	[ "$n" -eq 0 ] || finding "$n ipsets"
	return 0
}
