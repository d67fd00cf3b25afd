# What a package could leave behind, one thing a line: files, users, groups, profiles in the kernel, units, packages, processes.
# Not: logs, caches and databases of apt and dpkg, what libvirt keeps of domains and networks that were (leases, profiles), what Tor learns, and what the test brought.
find / -xdev \( -path /proc -o -path /sys -o -path /kit -o -path /tmp -o -path /var/tmp -o -path /root -o -path /var/log -o -path /var/lib/apt \
	-o -path /var/cache/apt -o -path /var/cache/debconf -o -path '/var/lib/dpkg/*-old' -o -path /var/lib/libvirt/dnsmasq -o -path /var/cache/libvirt -o -path /var/lib/libvirt/qemu -o -path /var/lib/tor -o -path /etc/apparmor.d/libvirt \) \
	-prune -o -printf 'file %p %y %m %u:%g %l\n' | sort
for d in /run /dev/shm; do find $d -path /run/libvirt -prune -o -iname '*guardring*' -printf 'file %p\n'; done
for f in passwd group shadow gshadow; do sed "s/:.*//; s/^/$f /" /etc/$f; done
sed 's/^/profile /' /sys/kernel/security/apparmor/profiles | sort
# Unit files, and the links by which they are enabled or masked, are among the files.
units=$(systemctl list-units --all --plain --no-legend '*guardring*')
echo "$units" | sed '/^$/d; s/^/unit /'
dpkg-query -W -f 'package ${Package} ${db:Status-Abbrev}\n'
[ ! -S /run/libvirt/libvirt-sock ] || virsh net-list --all --name | sed '/^$/d; s/^/network /'
pgrep -l guardring | sed 's/^/process /' || true
