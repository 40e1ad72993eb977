# SPDX-License-Identifier: Apache-2.0
# Starts a bootstrap, or attaches to it. In: $d with id, hash, limit and work/.
. "$d/lib.sh"
IFS= read -r id <"$d/id"
IFS= read -r limit <"$d/limit"
IFS= read -r want <"$d/hash"
lock -x || exit
load "$id"
settle
case $phase in
running | succeeded | failed)
	echo result=attached
	exit 0
	;;
esac
other=''
[ -f "$holder" ] && IFS= read -r other <"$holder"
if [ -n "$other" ] && [ "$other" != "$id" ]; then
	echo "finding=operation $other holds the host and was not reset"
	exit 0
fi
if systemctl is-active -q 'rack-*.service'; then
	echo "finding=another operation is running"
	exit 0
fi
kind=bootstrap hash=$want
mkdir -p "$ops/$op/saved" || exit
if [ -z "$other" ]; then
	# What a reset restores; both files are changed by commands whose effect can't be known.
	for f in hosts fstab; do
		[ -f "/etc/$f" ] && { cp -p "/etc/$f" "$ops/$op/saved/$f" || exit; }
	done
fi
printf '%s\n' "$id" >"$holder" && start
