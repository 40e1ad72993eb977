# SPDX-License-Identifier: Apache-2.0
# What a payload may ask for. $a is the action's directory, one file per field.

# field NAME prints nothing when the field is not given.
field() {
	value=''
	[ -f "$a/$1" ] && IFS= read -r value <"$a/$1"
	printf '%s' "$value"
}

# remember keeps what a reset needs to undo a write: the file's former content, or that there was none.
remember() {
	if [ -e "$1" ] || [ -L "$1" ]; then
		grep -qxF -- "$1" "$ops/$op/created" 2>/dev/null && return 0
		n=${a##*/}
		[ -e "$ops/$op/saved/$n.path" ] && return 0
		cp -pP "$1" "$ops/$op/saved/$n" && printf '%s\n' "$1" >"$ops/$op/saved/$n.path"
	else
		printf '%s\n' "$1" >>"$ops/$op/created"
	fi
}

write_file() {
	IFS= read -r path <"$a/path"
	[ -e "$a/secret" ] && printf '%s\n' "$path" >>"$work/secrets"
	parent=${path%/*}
	[ -d "${parent:-/}" ] || mkdir -p "$parent" || die "making the directory of $path"
	remember "$path" || die "keeping the former $path"
	# In place, because the path may be a bind mount; closed to others until owner and mode are right.
	if [ -e "$a/append" ]; then
		(umask 077 && cat "$a/content" >>"$path") || die "appending to $path"
	else
		(umask 077 && cat "$a/content" >"$path") || die "writing $path"
	fi
	chown "$(field owner)" "$path" && chmod "$(field mode)" "$path" || die "setting owner and mode of $path"
}

add_user() {
	IFS= read -r name <"$a/name"
	if ! id "$name" >/dev/null 2>&1; then
		set -- -m
		[ -f "$a/gecos" ] && set -- "$@" -c "$(field gecos)"
		[ -f "$a/homedir" ] && set -- "$@" -d "$(field homedir)"
		[ -f "$a/shell" ] && set -- "$@" -s "$(field shell)"
		[ -f "$a/inactive" ] && set -- "$@" -f 0
		if [ -f "$a/primary_group" ]; then
			ensure_group "$(field primary_group)"
			set -- "$@" -g "$(field primary_group)" -N
		fi
		printf '%s\n' "$name" >>"$ops/$op/users"
		useradd "$@" "$name" || die "adding user $name"
	fi
	if [ -f "$a/groups" ]; then
		while IFS= read -r group; do
			ensure_group "$group"
			usermod -a -G "$group" "$name" || die "adding user $name to group $group"
		done <"$a/groups"
	fi
	if [ -f "$a/passwd" ]; then
		printf '%s:%s\n' "$name" "$(field passwd)" | chpasswd -e || die "setting the password of user $name"
	fi
	[ ! -e "$a/lock_passwd" ] || usermod -L "$name" || die "locking the password of user $name"
	if [ -f "$a/sudo" ]; then
		rule=/etc/sudoers.d/90-rack-$name
		remember "$rule"
		mkdir -p /etc/sudoers.d
		(umask 0337 && printf '%s %s\n' "$name" "$(field sudo)" >"$rule.new") || die "writing $rule"
		if command -v visudo >/dev/null 2>&1 && ! visudo -cqf "$rule.new"; then
			rm -f "$rule.new"
			die "the sudo rule of user $name is malformed"
		fi
		mv -f "$rule.new" "$rule"
	fi
	[ -f "$a/keys" ] && authorize
	return 0
}

ensure_group() {
	getent group "$1" >/dev/null || groupadd "$1" || die "adding group $1"
}

authorize() {
	home=$(getent passwd "$name" | cut -d: -f6)
	group=$(id -gn "$name")
	mkdir -p "$home/.ssh" || die "making $home/.ssh"
	remember "$home/.ssh/authorized_keys"
	cat "$a/keys" >>"$home/.ssh/authorized_keys" &&
		chown "$name:$group" "$home/.ssh" "$home/.ssh/authorized_keys" &&
		chmod 0700 "$home/.ssh" && chmod 0600 "$home/.ssh/authorized_keys" || die "writing the keys of user $name"
}

set_time() {
	[ -e "$a/enabled" ] || return 0
	if command -v chronyd >/dev/null 2>&1; then
		file=/etc/chrony/conf.d/rack.conf unit=chrony line='server %s iburst\n'
		[ -d /etc/chrony ] || file=/etc/chrony.d/rack.conf unit=chronyd
	elif [ -x /lib/systemd/systemd-timesyncd ]; then
		file=/etc/systemd/timesyncd.conf.d/rack.conf unit=systemd-timesyncd line='NTP=%s\n'
	else
		die "ntp is asked for, and the host has neither chrony nor systemd-timesyncd"
	fi
	if [ -s "$a/servers" ]; then
		mkdir -p "${file%/*}" && remember "$file"
		{
			[ "$unit" = systemd-timesyncd ] && echo '[Time]'
			while IFS= read -r server; do
				# shellcheck disable=SC2059
				printf "$line" "$server"
			done <"$a/servers"
		} >"$file" || die "writing $file"
	fi
	systemctl enable -q --now "$unit" && systemctl restart "$unit" || die "starting $unit"
}

# used tells whether a disk holds something: partitions, a filesystem, or a signature.
used() {
	[ -n "$(blkid -p -o value -s PTTYPE -s TYPE "$1" 2>/dev/null)" ]
}

partition() {
	dev=$(field device)
	[ -s "$a/layout" ] || return 0
	[ -b "$dev" ] || die "$dev is not a block device"
	# A second run, or a disk that was kept: what is there is what was asked for, or not ours to destroy.
	if used "$dev" && [ ! -e "$a/overwrite" ]; then
		echo "rack: $dev is in use and overwrite is not set, left as it is"
		return 0
	fi
	mib=$(($(blockdev --getsize64 "$dev") / 1048576))
	# The last MiB holds GPT's backup table, the first the table itself.
	mib=$((mib - 2))
	left=100
	while read -r percent code; do
		left=$((left - percent))
		size="$((mib * percent / 100))MiB"
		[ "$left" -eq 0 ] && size=''
		printf ',%s,%s\n' "$size" "$code"
	done <"$a/layout" >"$work/sfdisk"
	sfdisk -q --wipe always --wipe-partitions always --label "$(field label)" "$dev" <"$work/sfdisk" || die "partitioning $dev"
	command -v udevadm >/dev/null 2>&1 && udevadm settle -t 10
	return 0
}

# part DEVICE NUMBER: nvme0n1 → nvme0n1p1, sda → sda1.
part() {
	real=$(readlink -f "$1")
	case $real in
	*[0-9]) printf '%sp%s' "$real" "$2" ;;
	*) printf '%s%s' "$real" "$2" ;;
	esac
}

make_fs() {
	dev=$(field device) type=$(field type) label=$(field label)
	case $(field partition) in
	'' | none) ;;
	auto | any) choose_partition ;;
	*) dev=$(part "$dev" "$(field partition)") ;;
	esac
	[ -b "$dev" ] || die "$dev is not a block device"
	have=$(blkid -p -o value -s TYPE "$dev" 2>/dev/null)
	force=''
	if [ -n "$have" ]; then
		if [ ! -e "$a/overwrite" ]; then
			[ "$have" = "$type" ] && [ "$(blkid -p -o value -s LABEL "$dev")" = "$label" ] && return 0
			[ "$have" = "$(field replace)" ] || die "$dev holds a $have filesystem and overwrite is not set"
		fi
		force=yes
	fi
	set --
	[ -n "$label" ] && set -- -L "$label"
	case $type in
	xfs | btrfs) [ -n "$force" ] && set -- "$@" -f ;;
	ext[234]) set -- "$@" -F ;;
	esac
	if [ -f "$a/extra_opts" ]; then
		while IFS= read -r opt; do set -- "$@" "$opt"; done <"$a/extra_opts"
	fi
	if [ "$type" = swap ]; then
		mkswap "$@" "$dev" || die "making swap on $dev"
	else
		"mkfs.$type" "$@" "$dev" || die "making a $type filesystem on $dev"
	fi
}

# choose_partition takes the one that already has the label and type, else the first without a filesystem, else the
# disk itself when it has no partitions.
choose_partition() {
	real=$(readlink -f "$dev") free='' any=''
	for sys in /sys/class/block/"${real##*/}"/*/partition; do
		[ -e "$sys" ] || continue
		p=/dev/$(basename "$(dirname "$sys")") any=yes
		have=$(blkid -p -o value -s TYPE "$p" 2>/dev/null)
		if [ "$have" = "$type" ] && [ "$(blkid -p -o value -s LABEL "$p")" = "$label" ]; then
			dev=$p
			return 0
		fi
		[ -z "$have" ] && [ -z "$free" ] && free=$p
	done
	[ -z "$any" ] && return 0
	[ -n "$free" ] || die "$dev has no partition without a filesystem"
	dev=$free
}

add_mount() {
	dev=$(field device) point=$(field point) type=$(field type)
	entry="$dev $point $type $(field options),x-rack $(field dump) $(field pass)"
	grep -qxF -- "$entry" /etc/fstab 2>/dev/null || printf '%s\n' "$entry" >>/etc/fstab || die "writing /etc/fstab"
	if [ "$type" = swap ]; then
		swapon -a || die "turning swap on"
		return 0
	fi
	mkdir -p "$point" || die "making $point"
	mountpoint -q "$point" || mount "$point" || die "mounting $point"
	printf '%s\n' "$point" >>"$ops/$op/mounts"
}
