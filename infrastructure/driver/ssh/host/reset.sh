# SPDX-License-Identifier: Apache-2.0
# Starts a reset, or attaches to it. In: $d with id, limit and work/.
. "$d/lib.sh"
IFS= read -r id <"$d/id"
IFS= read -r limit <"$d/limit"
lock -x || exit
load "$id"
settle
case $phase in
running | succeeded)
	echo result=attached
	exit 0
	;;
esac
if [ "$kind" = bootstrap ]; then
	echo "finding=operation $id is a bootstrap, not a reset"
	exit 0
fi
kind=reset hash=''
start
