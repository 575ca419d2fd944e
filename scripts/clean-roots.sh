#!/usr/bin/env bash
# Installs what `scripts/release.sh artefacts FOLDER` has made, as README.md says, in clean systems, and uses it there:
# Debian 12, Debian sid, and a root with busybox alone. As root; needs half a gigabyte, and some minutes.
#
#   scripts/clean-roots.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/needs.sh

needs() {
    cat <<'LIST'
command -v mmdebstrap                             | mmdebstrap     | makes a Debian in a folder
test -e /bin/busybox && ! ldd /bin/busybox           | busybox-static | is all there is in the third root
command -v xz                                     | xz-utils       | unpacks the archive
command -v unshare                                | util-linux     | gives the roots a /dev/shm of their own
LIST
}

if [ $# != 1 ] || ! [ -e "$1/SHA256SUMS" ]; then
    sed -n '2,/^set/{/^set/d; s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
folder=$(cd "$1" && pwd)
(cd "$folder" && sha256sum --quiet --check SHA256SUMS)
install_missing

# The lines of README's section on installing that contain a word, without sudo.
advised() { sed -n '/^## Install/,/^## A session/p' README.md | sed -n "s/^sudo //; /^[a-z].*$1/p"; }

# What a user does next. Ends with a word that only success prints.
cat >"${TMPDIR:-/tmp}/resourcelock-use.$$" <<'USE'
set -eu
resourcelock --version
[ "$(resourcelock demo run -- echo ran)" = ran ]
resourcelock demo get -q -m "by hand"
resourcelock demo state | grep -q "by hand"
status=0; resourcelock demo run -n -- true 2>/dev/null || status=$?
[ "$status" = 75 ]
resourcelock demo unget -q
resourcelock demo history | grep -q "by hand"
resourcelock doctor >/dev/null || resourcelock doctor
resourcelock demo remove -q
[ -z "$(ls /dev/shm)" ]
echo used
USE
use=${TMPDIR:-/tmp}/resourcelock-use.$$
roots=$(mktemp -d "${TMPDIR:-/tmp}/resourcelock-roots.XXXXXX")
trap 'rm -rf "$roots" "$use"' EXIT

# Runs a script in a root, whose /dev/shm is its own.
within() {
    local root=$1 script=$2
    mkdir -p "$root/artefacts" "$root/proc" "$root/dev/shm" "$root/tmp"
    cp "$folder"/resourcelock* "$root/artefacts"
    cp "$use" "$root/use"
    unshare --mount --pid --fork sh -euc '
        mount -t proc proc "$1/proc"
        mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm"
        [ -e "$1/dev/null" ] || { touch "$1/dev/null"; mount --bind /dev/null "$1/dev/null"; }
        exec chroot "$1" /bin/sh -euc "cd /artefacts; $2"' sh "$root" "$script" </dev/null
}

for suite in bookworm sid; do
    echo "$self: Debian $suite"
    # A mirror may be weeks behind: its signatures count, not their age.
    mmdebstrap --quiet --variant=apt --aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$roots/$suite"
    within "$roots/$suite" "$(advised _amd64.deb) </dev/null >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; exit 1; }
        sh /use; apt-get -y purge resourcelock >/dev/null 2>&1; ! command -v resourcelock"
    rm -rf "${roots:?}/$suite"
done

echo "$self: busybox alone"
mkdir -p "$roots/empty/bin" "$roots/empty/usr/local/bin"
cp /bin/busybox "$roots/empty/bin"
for word in sh xz tar cp cat grep ls echo true; do ln -s busybox "$roots/empty/bin/$word"; done
within "$roots/empty" "export PATH=/usr/local/bin:/bin; $(advised x86_64-linux); sh /use"
