# life.sh ARCH, inside: install, upgrade, remove and purge; then what is not as before.
# Headings begin with "== ".
set -e
exec 2>&1
cd /

# systemd seems to run: what concerns files is done without it, the rest is written down.
mkdir -p /run/systemd/system
mv /usr/bin/systemctl /usr/bin/systemctl.real
cat >/usr/bin/systemctl <<'END'
#!/bin/sh
for word in "$@"; do
	case $word in
	is-enabled | enable | disable | preset | mask | unmask) SYSTEMD_OFFLINE=1 exec systemctl.real "$@" ;;
	esac
done
echo "$*" >>/run/asked
END
chmod 755 /usr/bin/systemctl
rm -f /usr/sbin/policy-rc.d # deb-systemd-invoke would ask nothing

asked() {
	echo "== $1 systemctl"
	cat /run/asked
	: >/run/asked
}
look() {
	# dpkg's own records, and what other programs cache.
	find /etc /lib/systemd /usr /var -xdev -path /var/lib/dpkg -prune -o -path /var/cache -prune -o -path /var/log -prune -o -printf '%p %m %u %g %l\n' | sort >"$1"
	ls -A /run >>"$1"
	cat /etc/passwd /etc/group /etc/tor/torrc >>"$1"
}

touch /run/asked /run/before /run/after
look /run/before

echo "== install"
dpkg -i /run/debs/guardring_*_"$1".deb /run/debs/guardring-guest_*_"$1".deb
[ "$(stat -c '%U %G %a' /run/guardring)" = "guardring libvirt-qemu 755" ]
[ "$(stat -c '%U %G %a' /var/lib/guardring)" = "guardring guardring 700" ]
for unit in guardring-server guardring-coordinator guardring-standby guardring-guest; do
	[ -L "/etc/systemd/system/multi-user.target.wants/$unit.service" ]
done
printf 'name: web\n' >/etc/guardring/gateways.d/web.yaml
# The agents' user can read the configuration, and it is good.
runuser -u guardring -- guardring check-config && echo "web is good"
guardring-guest check-config
# Root must not make files there that the coordinators could not open.
if guardring ledger show; then exit 1; fi
runuser -u guardring -- guardring ledger show
[ -e /usr/share/man/man1/guardring.1.gz ] && [ -e /usr/share/man/man5/guardring-guest.yaml.5.gz ]
asked install

echo "== join"
guardring-guest join
echo "== joined"
cat /etc/tor/torrc

echo "== upgrade"
echo "# mine" >>/etc/guardring/guardring.yaml
dpkg -i /run/debs/guardring_*_"$1".deb /run/debs/guardring-guest_*_"$1".deb
runuser -u guardring -- guardring check-config && echo "web is good"
tail -n 1 /etc/guardring/guardring.yaml
asked upgrade

echo "== remove"
echo secret >/var/lib/guardring/ledger
dpkg -r guardring guardring-guest
asked remove

echo "== purge"
dpkg -P guardring guardring-guest
asked purge

look /run/after
echo "== left"
diff /run/before /run/after || true

echo "== beside the CD's agent"
dpkg -i /run/debs/guardring-guest_*_"$1".deb
guardring-guest join
cp /usr/bin/guardring-guest /usr/local/bin/guardring-guest
cp /lib/systemd/system/guardring-guest.service /etc/systemd/system/guardring-guest.service
: >/run/asked
dpkg -r guardring-guest
! grep -q stop /run/asked && grep -q include /etc/tor/torrc && echo "the CD's agent goes on"
