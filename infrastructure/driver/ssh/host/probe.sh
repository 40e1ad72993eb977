# SPDX-License-Identifier: Apache-2.0
# Tells what the host is. Changes nothing.
. "$d/lib.sh"
say() { printf '%s=%s\n' "$1" "$2"; }
read_line() {
	value=''
	[ -r "$1" ] && IFS= read -r value <"$1"
	printf '%s' "$value"
}
say hostname "$(read_line /proc/sys/kernel/hostname)"
say machine-id "$(read_line /etc/machine-id)"
say boot-id "$(read_line /proc/sys/kernel/random/boot_id)"
say kernel "$(read_line /proc/sys/kernel/osrelease)"
say machine "$(uname -m)"
(
	# shellcheck disable=SC1091
	. /etc/os-release 2>/dev/null
	say os "${PRETTY_NAME-}"
	say os-id "${ID-}"
	say os-version "${VERSION_ID-}"
)
say cpus "$(getconf _NPROCESSORS_ONLN)"
while read -r name kib _; do
	[ "$name" = MemTotal: ] && say memory-kib "$kib" && break
done </proc/meminfo
for b in /sys/block/*; do
	name=${b##*/}
	case $name in loop* | ram* | zram* | dm-* | md* | sr* | fd* | nbd* | '*') continue ;; esac
	sectors=$(read_line "$b/size")
	[ "${sectors:-0}" -gt 0 ] && say disk "$name $sectors $(read_line "$b/queue/rotational")"
done
ip -o addr show scope global 2>/dev/null | while read -r _ _ _ addr _; do say address "${addr%/*}"; done
command -v kubeadm >/dev/null 2>&1 && say kubeadm "$(kubeadm version -o short 2>/dev/null)"
[ -e /var/lib/kubelet/config.yaml ] && systemctl is-active -q kubelet && say kubelet active
[ -f "$holder" ] && say operation "$(read_line "$holder")"
for c in systemd-run systemctl flock tar sed find mount umount ip sync timeout; do
	command -v "$c" >/dev/null 2>&1 || say missing "$c"
done
[ -d /run/systemd/system ] || say missing systemd
exit 0
