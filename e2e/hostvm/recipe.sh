#!/bin/sh
# recipe.sh OUT SUITE SOURCES...: a Debian host as a disk: OUT/disk, OUT/kernel, OUT/initrd.
# It has systemd, AppArmor, audit, libvirt with QEMU, and a Tor that does not start. Needs root
# and a package mirror, which SOURCES (files of apt) name.
set -eu
out=$1 suite=$2
shift 2
root=$out/root

packages=systemd-sysv,dbus,udev,kmod,procps,iproute2,initramfs-tools,linux-image-cloud-amd64
packages=$packages,apparmor,apparmor-utils,auditd
packages=$packages,libvirt-daemon-system,libvirt-daemon-driver-qemu,libvirt-clients,qemu-system-x86,qemu-utils,seabios
packages=$packages,dnsmasq-base,nftables,iptables,tor

# The initramfs is made in a chroot, so it is told what it needs.
mmdebstrap --mode=root --variant=minbase --quiet --include="$packages" --aptopt='APT::Install-Recommends "false"' \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	--essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"' \
	--essential-hook='echo MODULES=list >"$1/etc/initramfs-tools/conf.d/modules"' \
	--essential-hook='printf "virtio_pci\nvirtio_blk\next4\n" >"$1/etc/initramfs-tools/modules"' \
	"$suite" "$root" "$@"

# What was left out for size alone is not to be left out of packages that are installed later.
rm -f "$root"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$root"/etc/apt/apt.conf.d/99mmdebstrap
rm -f "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/*
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
rm -f "$root"/etc/resolv.conf

echo host >"$root/etc/hostname"
printf '127.0.0.1 localhost host\n::1 localhost\n' >"$root/etc/hosts"
systemd-machine-id-setup --root="$root" >/dev/null

# The disk with what is under test, and what carries out commands.
mkdir "$root/kit"
cat >"$root/etc/fstab" <<END
/dev/vda / ext4 defaults 0 0
/dev/vdb /kit ext4 ro 0 0
END
cat >"$root/etc/systemd/system/errands.service" <<END
[Unit]
Description=Carries out a test's commands
RequiresMountsFor=/kit
BindsTo=dev-virtio\\x2dports-org.guardring.errand.device
After=dev-virtio\\x2dports-org.guardring.errand.device

[Service]
ExecStart=/kit/.inside
Environment=HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
Restart=always
KillMode=process
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
END
systemctl --root="$root" --quiet enable errands.service

# A busy machine without KVM may need minutes to show a disk or a port.
mkdir "$root/etc/systemd/system.conf.d"
printf '[Manager]\nDefaultDeviceTimeoutSec=10min\n' >"$root/etc/systemd/system.conf.d/patience.conf"

# Nothing of its own may run in the middle of a test.
systemctl --root="$root" --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
	fstrim.timer logrotate.timer systemd-tmpfiles-clean.timer systemd-binfmt.service getty@tty1.service serial-getty@ttyS0.service
systemctl --root="$root" --quiet disable tor.service tor@default.service nftables.service

cp -L "$root/vmlinuz" "$out/kernel"
cp -L "$root/initrd.img" "$out/initrd"
truncate -s 4G "$out/disk"
mke2fs -q -t ext4 -O ^has_journal -L host -d "$root" "$out/disk"
rm -rf "$root"
