# SPDX-License-Identifier: Apache-2.0
# Common to all scripts that run on a host. POSIX sh; every variable part is a file, never part of a script.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin
LC_ALL=C
export PATH LC_ALL
run=/run/rack                # lost at a reboot: what is secret
ops=/var/lib/rack/ops        # outlives it: what happened
holder=/var/lib/rack/current # id of the bootstrap that holds the host

# lock keeps starting and observing apart, so that nobody takes a unit that is about to start for a dead one.
lock() {
	mkdir -p "$run" "$ops" && exec 9>"$run/lock" && flock "$1" 9
}

# load ID reads its state into variables.
load() {
	op=$1 kind='' phase='' step='' exit='' reason='' boot='' hash=''
	[ -f "$ops/$op/state" ] || return 0
	while IFS='=' read -r key value; do
		case $key in
		kind) kind=$value ;; phase) phase=$value ;; step) step=$value ;; exit) exit=$value ;;
		reason) reason=$value ;; boot) boot=$value ;; hash) hash=$value ;;
		esac
	done <"$ops/$op/state"
}

# save writes the variables back, whole or not at all.
save() {
	printf 'kind=%s\nphase=%s\nstep=%s\nexit=%s\nreason=%s\nboot=%s\nhash=%s\n' \
		"$kind" "$phase" "$step" "$exit" "$reason" "$boot" "$hash" >"$ops/$op/state.new" &&
		mv -f "$ops/$op/state.new" "$ops/$op/state"
}

# settle tells a running operation from one whose executor is gone: killed, or lost in a reboot.
settle() {
	[ "$phase" = running ] || return 0
	systemctl is-active -q "rack-$op.service" && return 0
	# It may have ended between the two looks; the outcome is written before the unit ends.
	load "$op"
	[ "$phase" = running ] || return 0
	if [ -e "$ops/$op/join-started" ]; then
		phase=failed exit=255 reason="stopped by a reboot or a signal after the join began"
	else
		phase=interrupted reason="stopped by a reboot or a signal"
	fi
}

# begin_step records what is being done, for people who look at a condition.
begin_step() {
	[ "$step" = "$1" ] && return 0
	step=$1
	save
	echo "rack: $step"
}

# start puts the files of the operation in place and runs them as a unit that outlives the connection.
# KillMode=process: what the payload leaves in the background stays, as it does under cloud-init.
start() {
	[ "$phase" != interrupted ] || kill_unit "$op"
	rm -rf "${run:?}/ops/$op" && mkdir -p "$run/ops" "$ops/$op" && mv "$d/work" "$run/ops/$op" || return
	printf '%s\n' "$limit" >"$run/ops/$op/limit"
	IFS= read -r boot </proc/sys/kernel/random/boot_id
	phase=running step=start exit='' reason=''
	: >"$ops/$op/log" && save || return
	systemctl reset-failed "rack-$op.service" 2>/dev/null
	if ! systemd-run -q --collect --unit="rack-$op" --description="rack $kind $op" \
		-p KillMode=process -p TasksMax=infinity -p TimeoutStopSec=20 -p "RuntimeMaxSec=$limit" \
		/bin/sh "$run/ops/$op/run.sh" "$op"; then
		rm -rf "$ops/$op/state" "$run/ops/$op"
		return 1
	fi
	echo result=started
}

# kill_unit ends everything that an operation left running, also when its executor is gone.
kill_unit() {
	systemctl kill -s KILL --kill-who=all "rack-$1.service" 2>/dev/null
	systemctl stop "rack-$1.service" 2>/dev/null
	find /sys/fs/cgroup -path "*/rack-$1.service/cgroup.procs" -exec cat {} + 2>/dev/null |
		while read -r pid; do kill -KILL "$pid"; done
}

# uptime in whole seconds; no clock that somebody sets.
uptime() {
	IFS='. ' read -r seconds _ </proc/uptime
	echo "$seconds"
}

# supervise runs a function in the background, so that a signal is seen at once.
supervise() {
	IFS= read -r limit <"$work/limit"
	began=$(uptime)
	trap terminated TERM
	"$1" &
	wait $!
	exit=$?
	load_step
}

# terminated: systemd ends a unit at its time limit and at a shutdown. Only the first is an outcome; after the
# second the state stays "running" and is seen for what it is when somebody looks.
terminated() {
	if [ $(($(uptime) - began + 1)) -ge "$limit" ]; then
		load_step
		phase=failed exit=124 reason="still running at the time limit"
		conclude
	fi
	systemctl kill -s KILL --kill-who=all "rack-$op.service"
	exit 124
}

# load_step takes over the step that the background part came to.
load_step() {
	at=$(sed -n 's/^step=//p' "$ops/$op/state") && step=$at
}

# die ends the background part of an operation with a reason in one line.
die() {
	echo "rack: $1"
	printf '%s\n' "$1" >"$run/ops/$op/reason"
	exit 1
}

# conclude stores the outcome and leaves no secret behind: not the payload, nor what a program printed of it.
conclude() {
	if [ -f "$run/ops/$op/secrets" ]; then
		while IFS= read -r path; do rm -f "$path"; done <"$run/ops/$op/secrets"
	fi
	rm -rf "${run:?}/ops/$op"
	sed -i -E -e '/-----BEGIN/,/-----END/d' -e 's/[a-z0-9]{6}\.[a-z0-9]{16}/[redacted]/g' "$ops/$op/log"
	save
	sync "$ops/$op/state" 2>/dev/null || sync
}
