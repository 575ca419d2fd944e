#!/usr/bin/env bash
# Installs what `scripts/release.sh artefacts FOLDER` has made, as README.md says, in clean systems, and uses it there:
# Debian 12, Debian sid, and a root with busybox alone; what `scripts/cross.sh release FOLDER` has made for aarch64, in the
# same systems of that architecture, under qemu-user. As root; needs a gigabyte, and some minutes; far more under qemu-user.
#
#   scripts/clean-roots.sh FOLDER          each architecture that FOLDER has
#   scripts/clean-roots.sh from-source     what README.md says about sources, from a new clone of the last commit
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/needs.sh

needs() {
    echo 'command -v unshare | util-linux | gives each a /dev/shm of its own'
    if [ "$what" = from-source ]; then
        echo 'python3 -m ensurepip --version | python3-venv | keeps the Python package apart'
        return
    fi
    echo 'command -v mmdebstrap | mmdebstrap | makes a Debian in a folder'
    echo 'command -v xz | xz-utils | unpacks the archive'
    ! has arm64 || echo 'command -v qemu-aarch64-static | qemu-user-static | runs programs for aarch64'
}

# True if the folder has a package for this architecture.
has() { compgen -G "$folder/resourcelock_*_$1.deb" >/dev/null; }

# The lines of README's section on installing that contain a word, without sudo.
advised() { sed -n '/^## Install/,/^## A session/p' README.md | sed -n "s/^sudo //; /^[a-z].*$1/p"; }

# What a user does next. Ends with a word that only success prints.
write_use() {
    cat <<'USE'
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
}

# The same for the Python package, in an environment of its own.
write_use_python() {
    cat <<'USE'
set -eu
python - <<'PYTHON'
from resourcelock import Lock
with Lock("demo", timeout=5, message="from Python") as lock:
    assert lock.locked
PYTHON
resourcelock demo history | grep -q "from Python"
resourcelock demo remove -q
echo used from Python
USE
}

# Runs a script in a root, whose /dev/shm is its own.
within() {
    local root=$1 script=$2
    mkdir -p "$root/artefacts" "$root/proc" "$root/dev/shm" "$root/tmp"
    cp "$folder"/resourcelock* "$root/artefacts"
    write_use >"$root/use"
    write_use_python >"$root/use-python"
    unshare --mount --pid --fork sh -euc '
        mount -t proc proc "$1/proc"
        mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm"
        [ -e "$1/dev/null" ] || { touch "$1/dev/null"; mount --bind /dev/null "$1/dev/null"; }
        exec chroot "$1" /bin/sh -euc "cd /artefacts; $2"' sh "$root" "$script" </dev/null
}

# Debian's name of an architecture, and everybody else's.
in_roots() {
    local debian=$1 machine=$2 suite root
    # README.md says what to write for another architecture.
    advised_here() { advised "$1" | sed "s/amd64/$debian/; s/x86_64/$machine/g"; }
    for suite in bookworm sid; do
        echo "$self: Debian $suite, $debian"
        root=$roots/$debian-$suite
        # A mirror may be weeks behind: its signatures count, not their age.
        mmdebstrap --quiet --variant=apt --architectures="$debian" --skip=check/qemu --include=python3-venv,busybox-static \
            --aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$root"
        within "$root" "$(advised_here _amd64.deb) </dev/null >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; exit 1; }
            sh /use; apt-get -y purge resourcelock >/dev/null 2>&1; ! command -v resourcelock
            ls *_$machine.whl >/dev/null 2>&1 || exit 0
            python3 -m venv /environment; . /environment/bin/activate
            $(advised_here x86_64.whl); sh /use; sh /use-python"
    done

    echo "$self: busybox alone, $debian"
    root=$roots/$debian-empty
    mkdir -p "$root/bin" "$root/usr/local/bin"
    cp "$roots/$debian-bookworm/bin/busybox" "$root/bin"
    for word in sh xz tar cp cat grep ls echo true; do ln -s busybox "$root/bin/$word"; done
    within "$root" "export PATH=/usr/local/bin:/bin; $(advised_here x86_64-linux); sh /use"
}

emulated() {
    mkdir "$roots/unpacked"
    tar -xJf "$folder"/resourcelock-*-aarch64-linux.tar.xz -C "$roots/unpacked"
    register_qemu "$roots"/unpacked/*/resourcelock
    in_roots arm64 aarch64
}

from_source() {
    git clone --quiet . "$roots/clone"
    write_use >"$roots/use"
    write_use_python >"$roots/use-python"
    python3 -m venv "$roots/environment"
    cd "$roots/clone"
    echo "$self: $(advised 'install --path \.$')"
    CARGO_INSTALL_ROOT=$roots/cargo sh -euc "$(advised 'install --path \.$')"
    PATH=$roots/cargo/bin:$PATH own_shm sh "$roots/use"
    rm -rf "$roots/cargo"
    echo "$self: $(advised 'install \.$')"
    PATH=$roots/environment/bin:$PATH sh -euc "$(advised 'install \.$')"
    PATH=$roots/environment/bin:$PATH own_shm sh -euc 'sh "$1/use"; sh "$1/use-python"' sh "$roots"
}

what=${1-} folder=''
[ "$what" = from-source ] || folder=$(cd "${what:-/nonexistent}" 2>/dev/null && pwd) || true
if [ $# != 1 ] || ! { [ "$what" = from-source ] || [ -e "$folder/SHA256SUMS" ]; }; then
    sed -n '2,/^set/{/^set/d; s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
install_missing
roots=$(mktemp -d "${TMPDIR:-/tmp}/resourcelock-roots.XXXXXX")
trap 'rm -rf "$roots"' EXIT
if [ "$what" = from-source ]; then
    find_cargo
    from_source
    exit
fi
(cd "$folder" && sha256sum --quiet --check SHA256SUMS)
! has amd64 || in_roots amd64 x86_64
# In a process of its own, at whose end qemu is unregistered.
! has arm64 || (emulated)
