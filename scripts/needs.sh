# What the scripts beside this one share: how they find and install what they need. Not executed, but read by them.
#
# A script defines `needs`, which prints what it needs, one per line: a command that succeeds if it is there | its Debian
# package | what it is for.

self=${0##*/}
rust_version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

# rustup puts cargo here, but a shell that was already open does not know.
find_cargo() {
    command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    command -v cargo >/dev/null && return
    echo "$self: cargo not found: install Rust $rust_version or newer with rustup" >&2
    exit 1
}

trim() { local text=$1; text=${text#"${text%%[![:space:]]*}"}; printf '%s' "${text%"${text##*[![:space:]]}"}"; }

# Fills the array `packages`, and prints a line for each thing that is missing.
find_missing() {
    packages=()
    local probe package reason
    while IFS='|' read -r probe package reason; do
        if ! (eval "$probe") >/dev/null 2>&1; then
            package=$(trim "$package")
            packages+=("$package")
            echo "$self: missing: package $package ($(trim "$reason"))" >&2
        fi
    done < <(needs)
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

install_missing() {
    find_missing
    [ ${#packages[@]} -gt 0 ] || return 0
    local by_hand="install by hand: apt-get install ${packages[*]}"
    if ! command -v apt-get >/dev/null; then
        echo "$self: this system has no apt-get; $by_hand (or whatever they are called here)" >&2
        exit 1
    fi
    if ! as_root true 2>/dev/null; then
        echo "$self: cannot install packages (not root, and no passwordless sudo); $by_hand" >&2
        exit 1
    fi
    # The package lists may be old or absent. This costs time only when a package is missing.
    as_root apt-get update -q >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}" >&2
    find_missing
    [ ${#packages[@]} = 0 ] || { echo "$self: still missing after the installation; $by_hand" >&2; exit 1; }
}

# The target of this machine with musl; nothing if that is not a variant of its own.
own_musl() { "${RUSTC:-rustc}" -vV | sed -n 's/^host: \(.*\)-gnu$/\1-musl/p'; }

# True if the compiler can link programs with musl, for this target. Its standard library, with musl in it, comes from rustup.
has_musl() {
    local library
    library=$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/$1
    test -d "$library" || { command -v rustup >/dev/null && rustup target add "$1" >&2 && test -d "$library"; }
}

# What is installed only for the tests goes outside the checkout, so that other checkouts find it, too.
cache=${RESOURCELOCK_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/resourcelock-tests}

# Runs a command with an empty /dev/shm of its own; as root.
own_shm() { unshare --mount sh -c 'mount -t tmpfs -o mode=1777 tmpfs /dev/shm && exec "$@"' sh "$@"; }

# Has the kernel start aarch64's programs, of which this is one, with qemu until this process ends; as root.
register_qemu() {
    local program=$1 handlers=/proc/sys/fs/binfmt_misc
    [ -e $handlers/register ] || mount -t binfmt_misc binfmt_misc $handlers
    "$program" --version >/dev/null 2>&1 && return
    sed -n 's/^:qemu-aarch64:/:resourcelock-cross:/p' /usr/lib/binfmt.d/qemu-aarch64.conf >$handlers/register
    trap "echo -1 >$handlers/resourcelock-cross" EXIT
    "$program" --version >/dev/null
}
