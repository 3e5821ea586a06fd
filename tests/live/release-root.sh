#!/bin/bash
# A folder with another Ceph release, from Debian's own packages; its programs are run by chroot.
#   release-root.sh SUITE ROOT     build ROOT unless it is there, then mount (Debian forky holds Ceph Tentacle)
#   release-root.sh --mount ROOT   mount proc and /dev in a built ROOT, as after a restart of the machine
# Needs root, debootstrap and xz-utils. Interrupted, it leaves no ROOT behind; started twice, one waits for the other.
set -euo pipefail

PACKAGES="ceph-mon ceph-osd ceph-mds ceph-common ceph-fuse python3-cephfs"
DEBIAN=http://deb.debian.org/debian
ACQUIRE="Acquire::http Acquire::https Acquire::Check-Valid-Until Acquire::Check-Date Acquire::Retries" # proxies, too

fail() { echo "release-root.sh: $*" >&2; exit 1; }

mount_into() {
  mountpoint -q "$1/proc" || mount -t proc proc "$1/proc"
  mountpoint -q "$1/dev" || mount --bind /dev "$1/dev"
}

unmount_from() {
  local mounted
  for mounted in "$1/dev" "$1/proc"; do
    if mountpoint -q "$mounted"; then umount "$mounted"; fi
  done
}

discard() {
  unmount_from "$1" && rm -rf --one-file-system "$1" # never through a mounted /dev
}

# The mirror this machine itself installs from, else Debian's own.
mirror() {
  { cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true; echo "deb $DEBIAN"; } |
    awk '$1 == "URIs:" && !found {found = $2}
         $1 == "deb" && !found {for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) {found = $i; break}}
         END {print found}'
}

build() {
  local suite=$1 root=$2 folder program
  local said=$root.log script=/usr/share/debootstrap/scripts/$suite
  command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap xz-utils"
  if [ ! -e "$script" ]; then # a suite newer than this machine's debootstrap
    script=/usr/share/debootstrap/scripts/sid
  fi
  for folder in "$root".building-*; do # of a run that was killed: ours is the only one now
    if [ -d "$folder" ]; then discard "$folder"; fi
  done
  folder=$(mktemp -d "$root.building-XXXXXX")
  # shellcheck disable=SC2064  # the folder of now
  trap "discard '$folder'" EXIT
  chmod 755 "$folder"
  # shellcheck disable=SC2086  # one word each, here and below
  {
    debootstrap --variant=minbase --include=ca-certificates "$suite" "$folder" \
      "$(mirror)" "$script" &&
      cp /etc/resolv.conf "$folder/etc/" &&
      apt-config dump $ACQUIRE >"$folder/etc/apt/apt.conf.d/50acquire-as-the-host" &&
      echo force-unsafe-io >"$folder/etc/dpkg/dpkg.cfg.d/unsafe-io" && # half the time; a crash discards it all anyway
      mount_into "$folder" &&
      chroot "$folder" apt-get update
  } >"$said" 2>&1 || { tail -n 20 "$said" >&2; fail "no $suite in $root; the whole story: $said"; }
  # ceph-mon's post-install step fails for want of systemd, its programs are there all the same: judge by those.
  DEBIAN_FRONTEND=noninteractive chroot "$folder" \
    apt-get install -y --no-install-recommends $PACKAGES >>"$said" 2>&1 || true
  for program in ceph ceph-mon ceph-osd ceph-mds ceph-fuse; do
    chroot "$folder" "$program" --version >>"$said" 2>&1 ||
      { tail -n 20 "$said" >&2; fail "no $program in $root; the whole story: $said"; }
  done
  chroot "$folder" apt-get clean
  unmount_from "$folder"
  mv -T "$folder" "$root"
  trap - EXIT
  rm -f "$said"
}

[ $# -eq 2 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ "$(id -u)" -eq 0 ] || fail "needs root, for chroot and mount"
ROOT=$(realpath -m "$2")
mkdir -p "$(dirname "$ROOT")"
exec 9>"$ROOT.lock"
flock 9
if [ "$1" != --mount ] && [ ! -x "$ROOT/usr/bin/ceph-mon" ]; then
  [ ! -e "$ROOT" ] || fail "$ROOT is there, but is no Ceph root: remove it, unmounting what is mounted in it first"
  build "$1" "$ROOT"
fi
[ -x "$ROOT/usr/bin/ceph-mon" ] || fail "no Ceph in $ROOT: run \`make tentacle\` as root"
mount_into "$ROOT"
