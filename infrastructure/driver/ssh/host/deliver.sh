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
held=''
[ -f "$holder" ] && IFS= read -r held <"$holder"
if [ -n "$held" ] && [ "$held" != "$id" ]; then
	echo "finding=operation $held holds the host and was not reset"
	exit 0
fi
for other in "$ops"/*/state; do
	other=${other%/state}
	other=${other##*/}
	if [ "$other" != "$id" ] && (load "$other" && settle && [ "$phase" = running ]); then
		echo "finding=operation $other is running"
		exit 0
	fi
done
kind=bootstrap hash=$want
mkdir -p "$ops/$op/saved" || exit
if [ -z "$held" ]; then
	# What a reset restores; both files are changed by commands whose effect can't be known.
	for f in hosts fstab; do
		[ -f "/etc/$f" ] && { cp -p "/etc/$f" "$ops/$op/saved/$f" || exit; }
	done
fi
printf '%s\n' "$id" >"$holder" && start
