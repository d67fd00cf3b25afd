# The first process of the namespaces: it prepares them, reaps what is orphaned
# (else libvirt could never see a QEMU end), and starts libvirtd for each line on
# standard input. $1 is the directory of everything.
set -eu
dir=$1
mkdir -p "$dir/run" "$dir/etc" "$dir/state"

cat >"$dir/libvirtd.conf" <<X
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_ro_perms = "0777"
unix_sock_rw_perms = "0700"
log_outputs = "2:stderr"
X
[ -e "$dir/etc/qemu.conf" ] || cat >"$dir/etc/qemu.conf" <<X
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
X
# The driver wants to know the user that Debian's package makes.
cp /etc/passwd "$dir/passwd"
grep -q '^libvirt-qemu:' "$dir/passwd" || echo 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin' >>"$dir/passwd"
cp /etc/group "$dir/group"
grep -q '^libvirt-qemu:' "$dir/group" || echo 'libvirt-qemu:x:64055:' >>"$dir/group"
mount --bind "$dir/passwd" /etc/passwd
mount --bind "$dir/group" /etc/group

for at in /run /var/lib /var/cache /var/log; do
	mount -t tmpfs none "$at"
	mkdir "$at/libvirt"
done
mount --bind "$dir/run" /run/libvirt
mount --bind "$dir/state" /var/lib/libvirt
mkdir -p /etc/libvirt
mount --bind "$dir/etc" /etc/libvirt

while read -r order; do
	libvirtd --config "$dir/libvirtd.conf" </dev/null >/dev/null &
	wait $! || true
	echo ended
done
