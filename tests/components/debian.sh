# shellcheck shell=bash
# What components made of Debian's packages share; sourced by them, run by nobody.
#
# apt works with lists and caches of its own, from the mirror that the system is configured with, and
# verifies with Debian's keys; the sources of the system stay as they are, and nothing is installed.

debian_keys=/usr/share/keyrings/debian-archive-keyring.gpg

# debian_repositories WORK: the system's own repositories of Debian, one a line: its address, the suite.
debian_repositories() {
  local found seen=()
  found="$(debian_targets)"
  if [ -z "$found" ]; then
    # The system has no lists yet, and apt tells the repositories by them.
    mkdir -p "$1/seen/partial"
    seen=(-o Dir::State::Lists="$1/seen" -o APT::Sandbox::User="$(id -un)")
    apt-get -q "${seen[@]}" update >&2
    found="$(debian_targets "${seen[@]}")"
  fi
  if [ -z "$found" ]; then
    echo "components: apt knows no mirror of Debian; look at /etc/apt/sources.list" >&2
    return 1
  fi
  echo "$found"
}

debian_targets() {
  apt-get "$@" indextargets --format '$(ORIGIN) $(COMPONENT) $(REPO_URI) $(RELEASE)' 'Identifier: Packages' |
    awk '$1 == "Debian" && $2 == "main" { print $3, $4 }' | sort -u
}

# debian_apt WORK SUITE...: fills the array `apt` with apt-get for other suites than the system's.
debian_apt() {
  local work="$1" mirror suite
  shift
  mkdir -p "$work"/{none,lists/partial,cache/archives/partial}
  : >"$work/status"
  mirror="$(debian_repositories "$work" | awk '$2 !~ /security/ && !found { print $1; found = 1 }')"
  for suite in "$@"; do echo "deb [signed-by=$debian_keys] $mirror $suite main"; done >"$work/sources.list"
  apt=(apt-get -q
    -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts="$work/none" -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts="$work/none"
    -o Dir::State::Lists="$work/lists" -o Dir::State::Status="$work/status" -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)"
    -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o APT::Get::List-Cleanup=0)
  "${apt[@]}" update >&2
}

# debian_layer APT LAYER TREE... <SCRIPT: runs a script as root inside TREE... (the uppermost first); what it
# changes is left in LAYER, in overlayfs's form. APT holds lists and packages for those that come later.
debian_layer() {
  mkdir -p "$1"/{lists,archives}/partial "$2" "$2.work" "$2.root"
  # In a mount namespace of its own: nothing stays mounted, whatever happens.
  unshare --mount --propagation private -- bash -euo pipefail -c "$(declare -f debian_enter); debian_enter \"\$@\"" layer "$@"
  rm -rf "$2.work" "$2.root"
}

debian_enter() {
  local apt="$1" layer="$2" root="$2.root" trees
  shift 2
  trees="$(IFS=:; echo "$*")"
  mount -t overlay -o "lowerdir=$trees,upperdir=$layer,workdir=$layer.work" overlay "$root"
  mount -t proc proc "$root/proc"
  mount -t tmpfs tmpfs "$root/tmp"
  mount -t tmpfs tmpfs "$root/run"
  mount --bind "$apt/lists" "$root/var/lib/apt/lists"
  mount --bind "$apt/archives" "$root/var/cache/apt/archives"
  # A name server, and no service that starts: both gone with the mounts.
  touch "$root/usr/sbin/policy-rc.d" "$root/etc/resolv.conf"
  mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
  printf '#!/bin/sh\nexit 101\n' >"$root/run/no-services"
  chmod 755 "$root/run/no-services"
  mount --bind "$root/run/no-services" "$root/usr/sbin/policy-rc.d"
  env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    ${http_proxy:+http_proxy="$http_proxy"} chroot "$root" /bin/bash -euo pipefail -s >&2
  umount "$root/usr/sbin/policy-rc.d"
  # Nothing of it is of use later.
  rm -f "$root/usr/sbin/policy-rc.d" "$root"/var/cache/apt/*.bin "$root"/var/lib/dpkg/*-old "$root"/var/log/{dpkg,alternatives,bootstrap}.log
  rm -rf "$root"/var/log/apt "$root"/var/cache/debconf/*-old
}
