# SPDX-License-Identifier: Apache-2.0
# Reports on one operation. In: $d with id.
. "$d/lib.sh"
IFS= read -r id <"$d/id"
lock -s || exit
load "$id"
settle
joined=false
[ -e "$ops/$op/join-started" ] && joined=true
printf 'phase=%s\nstep=%s\nexit=%s\nreason=%s\nboot=%s\nhash=%s\njoined=%s\nlog\n' \
	"$phase" "$step" "$exit" "$reason" "$boot" "$hash" "$joined"
[ -f "$ops/$op/log" ] && tail -c 16384 "$ops/$op/log"
exit 0
