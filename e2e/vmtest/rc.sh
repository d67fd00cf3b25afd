#!/bin/sh
# What a guest does before it takes commands. busybox's init runs it once.
set -e
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null || true
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
for m in virtio_pci virtio_console virtio_rng virtio_net; do modprobe "$m"; done

# The ports' names as udev would link them.
mkdir -p /dev/virtio-ports
for p in /sys/class/virtio-ports/*; do
	[ -r "$p/name" ] || continue
	ln -sf "/dev/${p##*/}" "/dev/virtio-ports/$(cat "$p/name")"
done

# Folders on the disk begin as they are here.
keep() {
	modprobe virtio_blk
	mount -t ext4 /dev/vda /disk
	for d in $(echo "$1" | tr , ' '); do
		if [ ! -e "/disk$d" ]; then
			mkdir -p "/disk${d%/*}" "$d"
			cp -a "$d" "/disk$d.new"
			sync
			mv "/disk$d.new" "/disk$d"
		fi
		mount --bind "/disk$d" "$d"
	done
}

ip link set lo up
for word in $(cat /proc/cmdline); do
	case "$word" in
	vm.name=*) hostname "${word#*=}" ;;
	vm.keep=*) keep "${word#*=}" ;;
	vm.address=*) ip link set eth0 up && ip address add "${word#*=}" dev eth0 ;;
	vm.router=*) ip route add default via "${word#*=}" ;;
	esac
done
