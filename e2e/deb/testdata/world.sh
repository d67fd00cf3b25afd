# world.sh DIR DEBS ARCH, in mount, PID and network namespaces of its own: a system over
# this one, whose changes end with the namespaces, and in it the packages' life.
set -e
dir=$1
mount -t tmpfs tmpfs "$dir"
mkdir "$dir/changes" "$dir/work" "$dir/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/changes,workdir=$dir/work" "$dir/root"
mount -t proc proc "$dir/root/proc"
mount --bind /dev "$dir/root/dev"
mount -t tmpfs tmpfs "$dir/root/run"
mkdir "$dir/root/run/debs"
mount --bind "$2" "$dir/root/run/debs"
cp "$(dirname "$0")/life.sh" "$dir/root/run/life.sh"
exec chroot "$dir/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive sh /run/life.sh "$3"
