# SPDX-License-Identifier: Apache-2.0
# The executor of a reset: takes the host back to what it was before the bootstrap, then proves it.
# Every step may find its work done already, so running it again is safe. What fails is noted and the rest goes on:
# only the check at the end decides.
work=$(dirname "$0")
. "$work/lib.sh"
. "$work/leftovers.sh"
load "$1"
exec >>"$ops/$op/log" 2>&1 </dev/null
umask 022
HOME=/root
export HOME

# stop_payload ends the bootstrap and everything it left running.
stop_payload() {
	[ -f "$holder" ] || return 0
	IFS= read -r old <"$holder"
	kill_unit "$old"
	rm -rf "${run:?}/ops/$old"
}

# remove_pods goes before kubeadm reset, which gives up at a busy mount before it comes to the containers.
remove_pods() {
	for s in $(runtimes); do
		crictl -r "$s" -t 60s rmp -f -a || echo "rack: removing pods at $s failed"
	done
	ip netns list 2>/dev/null | sed -n 's/^\(cni-[^ ]*\).*/\1/p' | while IFS= read -r n; do ip netns del "$n"; done
}

unmount() {
	for dir in /var/lib/kubelet /run/cilium; do
		mounts_below "$dir" | while IFS= read -r point; do umount "$point"; done
	done
}

reset_kubeadm() {
	command -v kubeadm >/dev/null 2>&1 || return 0
	[ -e /etc/kubernetes/kubelet.conf ] || [ -e /etc/kubernetes/bootstrap-kubelet.conf ] || [ -e /var/lib/kubelet/config.yaml ] || return 0
	set --
	for s in $(runtimes); do
		set -- --cri-socket "$s"
		break
	done
	timeout 300 kubeadm reset -f "$@" || echo "rack: kubeadm reset failed, going on"
}

# empty never crosses a mount: what is mounted below may be a tenant's data.
empty() {
	for dir in $leftover_dirs; do
		[ -d "$dir" ] || continue
		if [ -n "$(mounts_below "$dir")" ]; then
			echo "rack: something is still mounted below $dir, left as it is"
			continue
		fi
		find "$dir" -xdev -mindepth 1 -delete
	done
}

clean_network() {
	ipvs=$(links | grep -cx kube-ipvs0)
	links | while IFS= read -r l; do ip link del "$l"; done
	for f in $(firewalls); do
		"$f-save" >"$work/rules" 2>/dev/null
		grep -qE "$leftover_chains" "$work/rules" || continue
		grep -vE "$leftover_chains" "$work/rules" | "$f-restore" || echo "rack: removing $f rules failed"
	done
	tables | while read -r _ family name _; do nft delete table "$family" "$name"; done
	sets | while IFS= read -r s; do ipset destroy "$s"; done
	# The cluster templates mark the routes they add with this protocol number.
	ip route flush proto 242 2>/dev/null
	if [ "$ipvs" -gt 0 ] && command -v ipvsadm >/dev/null 2>&1; then ipvsadm -C; fi
}

# undo takes back what the payload did outside Kubernetes' own directories.
undo() {
	[ -n "$old" ] && [ -d "$ops/$old" ] || return 0
	was=$ops/$old
	if [ -f "$was/mounts" ]; then
		sort -r "$was/mounts" | while IFS= read -r point; do umount "$point"; done
	fi
	if [ -f "$was/created" ]; then
		while IFS= read -r path; do rm -f "$path"; done <"$was/created"
	fi
	for path in "$was"/saved/*.path; do
		[ -f "$path" ] || continue
		IFS= read -r target <"$path"
		restore "${path%.path}" "$target"
	done
	for f in hosts fstab; do
		[ -f "$was/saved/$f" ] && ! cmp -s "$was/saved/$f" "/etc/$f" && restore "$was/saved/$f" "/etc/$f"
	done
	if [ -f "$was/users" ]; then
		while IFS= read -r name; do
			pkill -KILL -u "$name"
			id "$name" >/dev/null 2>&1 && userdel -r "$name"
		done <"$was/users"
	fi
	return 0
}

# restore writes in place: the file may be a bind mount, as /etc/hosts is in a container.
restore() {
	if [ -L "$1" ]; then
		cp -fPp "$1" "$2"
	else
		cat "$1" >"$2" && chown --reference="$1" "$2" && chmod --reference="$1" "$2"
	fi || echo "rack: restoring $2 failed"
}

forget() {
	for other in "$ops"/*; do
		[ "$other" = "$ops/$op" ] || rm -rf "$other"
	done
	rm -f "$holder"
}

actions() {
	old=''
	begin_step "stopping"
	stop_payload
	systemctl stop kubelet
	systemctl disable -q kubelet 2>/dev/null
	begin_step "removing pods"
	remove_pods
	unmount
	begin_step "kubeadm reset"
	reset_kubeadm
	begin_step "undoing the payload"
	undo
	begin_step "emptying directories"
	empty
	begin_step "cleaning the network"
	clean_network
	begin_step "verifying"
	verify >"$work/findings"
	if [ -s "$work/findings" ]; then
		cat "$work/findings"
		die "not clean: $(sed 's/^finding=//' "$work/findings" | tr '\n' ';')"
	fi
	forget
}

supervise actions
if [ -f "$work/reason" ]; then
	phase=failed
	IFS= read -r reason <"$work/reason"
elif [ "$exit" -eq 0 ]; then
	phase=succeeded
else
	phase=failed reason="the reset ended early"
fi
conclude
exit "$exit"
