# SPDX-License-Identifier: Apache-2.0
# The executor of a bootstrap: performs the actions in order, then judges by the sentinel.
work=$(dirname "$0")
. "$work/lib.sh"
load "$1"
exec >>"$ops/$op/log" 2>&1 </dev/null
umask 022
HOME=/root RACK_JOIN_STARTED=$ops/$op/join-started
export HOME RACK_JOIN_STARTED
. "$work/actions.sh"
IFS= read -r sentinel <"$work/sentinel"

actions() {
	rm -f "$sentinel"
	for a in "$work"/actions/*; do
		IFS= read -r what <"$a/kind"
		begin_step "$what"
		case $what in
		write_files) write_file ;;
		bootcmd | runcmd) /bin/sh "$a/script" ;;
		users) add_user ;;
		ntp) set_time ;;
		disk_setup) partition ;;
		fs_setup) make_fs ;;
		mounts) add_mount ;;
		*) die "unknown action $what" ;;
		esac
		last=$?
	done
	exit "$last"
}

supervise actions
if [ -f "$work/reason" ]; then
	phase=failed
	IFS= read -r reason <"$work/reason"
elif [ -f "$sentinel" ]; then
	phase=succeeded
	[ "$exit" -eq 0 ] || reason="a command after the join failed"
	# The next reset disables kubelet; a worker must come back after a reboot.
	systemctl is-enabled -q kubelet 2>/dev/null || systemctl enable -q kubelet 2>/dev/null || :
else
	phase=failed reason="the commands ended without a successful join"
fi
conclude
exit "$exit"
