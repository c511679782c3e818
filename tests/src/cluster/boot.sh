# Boots one machine: runs as the first process of its namespaces, and becomes its service manager.
#   boot.sh NAME ADDRESS DISK BASE LAYER ENGINE [SOURCE TARGET]...
# DISK is a folder: disk.img and state.img, file systems to fill; seed/, what this machine has beside the tree.
# ENGINE is a folder of images that the engine has from the start, or nothing.
# Each SOURCE, a file or a folder of outside, is seen at TARGET.
set -eu
name=$1 address=$2 disk=$3 base=$4 layer=$5 engine=$6
shift 6
root=$disk/root

mount --make-rprivate /
# Images, since a machine's tens of thousands of files are gone with one; and nothing waits for the real disk.
mkdir "$disk/own"
mount -o loop,noatime,nobarrier "$disk/disk.img" "$disk/own"
mkdir "$disk/own/upper" "$disk/own/work" "$disk/own/docker"
cp -a "$disk/seed/." "$disk/own/upper"
mount -t overlay -o "lowerdir=$layer:$base,upperdir=$disk/own/upper,workdir=$disk/own/work" overlay "$root"
# The engine's own overlays do not go on top of another.
mkdir -p "$root/var/lib/docker" "$root/var/lib/sovereign"
mount --bind "$disk/own/docker" "$root/var/lib/docker"
if [ -n "$engine" ]; then
  # What the engine knows of images is its own; their layers are seen where it looks for them.
  cp -a "$engine/docker/." "$root/var/lib/docker"
  layers=$root/var/lib/docker/overlay2
  mount --bind "$layers" "$layers"
  for source in "$engine"/layers/*; do
    mount --bind "$source" "$layers/${source##*/}/diff"
    mount -o remount,bind,ro "$layers/${source##*/}/diff"
    # Without it, the engine lays a layer that nothing stands on out to be written to, which it cannot be.
    : >"$layers/${source##*/}/committed"
  done
fi
mount -o loop,noatime,nobarrier "$disk/state.img" "$root/var/lib/sovereign"
chmod 700 "$root/var/lib/sovereign"

mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%:*}" "$root/dev/${number#*:}"; done

# Control groups, of which it sees its own part only.
groups=$root/sys/fs/cgroup
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 "$groups"
else
  mount -t tmpfs -o mode=755 tmpfs "$groups"
  for folder in /sys/fs/cgroup/*/cgroup.procs; do
    controllers=$(basename "$(dirname "$folder")")
    [ -L "/sys/fs/cgroup/$controllers" ] && continue
    mkdir "$groups/$controllers"
    case $controllers in
      # Version 2 without controllers: the service manager finds its processes by it.
      unified) mount -t cgroup2 cgroup2 "$groups/$controllers" ;;
      systemd) mount -t cgroup -o none,name=systemd cgroup "$groups/$controllers" ;;
      *) mount -t cgroup -o "$controllers" cgroup "$groups/$controllers" ;;
    esac
  done
fi

while [ $# -ge 2 ]; do
  target=$root$2
  mkdir -p "$(dirname "$target")"
  if [ -d "$1" ]; then mkdir -p "$target"; else : >>"$target"; fi
  mount --bind "$1" "$target"
  shift 2
done

hostname "$name"
echo "$name" >"$root/etc/hostname"
printf '127.0.0.1 localhost\n%s %s\n' "$address" "$name" >"$root/etc/hosts"
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"

ip link set lo up
tries=0
until ip link show eth0 >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ "$tries" -lt 500 ] || { echo "no cable" >&2; exit 1; }
  sleep 0.02
done
ip address add "$address/16" dev eth0
ip link set eth0 up

cd "$root"
mkdir -p .before
pivot_root . .before
umount -l /.before
rmdir /.before
exec env -i container=lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --show-status=no
