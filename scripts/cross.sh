#!/usr/bin/env bash
# Other machines than the one that builds.
#
#   scripts/cross.sh check       type-checks library and program for aarch64, riscv64 and musl (part of .ci/run)
#   scripts/cross.sh build       builds the program for aarch64, static-pie, and says where it is
#   scripts/cross.sh release FOLDER   what is handed out for aarch64, see scripts/release.sh
#   scripts/cross.sh test        runs the unit tests for aarch64 under qemu-user, and the end-to-end tests with that program,
#                                beside this machine's library and Python module, then beside aarch64's Python; as root.
#                                Takes a gigabyte and, on two cores, a quarter of an hour
#   scripts/cross.sh musl        builds the program for x86_64 with musl, static, and runs the end-to-end tests of the locks of
#                                this machine with it, beside the library with glibc and the Python module; as root. The
#                                standard library is rustup's: `rustup target add x86_64-unknown-linux-musl`
#   scripts/cross.sh soak [DURATION]   the soak of scripts/soak.sh with that program and that Python under qemu-user, beside
#                                this machine's library; with fewer processes, and without engines; as root (5m)
#
# Standard libraries for these come from their sources (cargo's build-std), so no target has to be installed. The compiler
# must be of the same version as the sources: it is the one in the PATH if it has them (`rustup component add rust-src`, or
# Debian's rust-src), else Debian's rustc-web with rust-web-src, unpacked into the tests' cache and not installed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/needs.sh

needs() {
    cat <<'LIST'
command -v cc                                     | gcc          | links build scripts
test -e /usr/include/stdlib.h                     | libc6-dev    | links build scripts
LIST
    [ "$part" = check ] || [ "$part" = musl ] || cat <<'LIST'
command -v aarch64-linux-gnu-gcc                  | gcc-aarch64-linux-gnu | links programs for aarch64
test -e /usr/aarch64-linux-gnu/lib/libc.a         | libc6-dev-arm64-cross | links programs for aarch64
LIST
    [ "$part" != test ] && [ "$part" != soak ] || cat <<'LIST'
command -v qemu-aarch64-static                    | qemu-user-static | runs programs for aarch64
command -v mmdebstrap                             | mmdebstrap   | gets aarch64's Python
command -v unzip                                  | unzip        | unpacks aarch64's posix_ipc
LIST
}

has_sources() { test -e "$("$1" --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/Cargo.lock"; }

# The newest version that apt offers of a package, or nothing.
candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: \([0-9].*\)/\1/p'; }
offers() { dpkg --compare-versions "$(candidate "$1")" ge "$rust_version"; }

# Unpacks Debian's compiler with the sources into a directory.
unpack_compiler() {
    local into=$1 debs package packages
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        echo "$self: no sources of Rust's standard library, and no apt-get to get them: rustup component add rust-src" >&2
        exit 1
    fi
    offers rust-web-src || as_root apt-get update -q >&2
    if ! offers rust-web-src; then
        echo "$self: no sources of Rust's standard library: apt offers rust-web-src '$(candidate rust-web-src)', but" \
            "$rust_version or newer is needed: rustup component add rust-src" >&2
        exit 1
    fi
    # Of what it depends on, its own libraries: the others are on every machine that builds.
    packages=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances rustc-web | grep -E '^(libstd-rust-web|libllvm)' | sort -u)
    debs=$(mktemp -d "${TMPDIR:-/tmp}/resourcelock-cross.XXXXXX")
    (cd "$debs" && apt-get -o APT::Sandbox::User=root download -q rustc-web rust-web-src $packages >&2)
    rm -rf "$into" "$into.part"
    mkdir -p "$into.part"
    for package in "$debs"/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$into.part" --no-wildcards-match-slash --exclude='./usr/share' --exclude='./usr/src/rustc-*/src' \
            --exclude='./usr/src/rustc-*/compiler'
    done
    rm -r "$debs"
    mv "$into.part" "$into"
}

# Sets RUSTC to a compiler that has the sources of its standard library.
find_compiler() {
    export RUSTC=rustc
    has_sources rustc && return
    local unpacked=$cache/rustc-web
    RUSTC=$unpacked/rustc
    has_sources "$RUSTC" && return
    echo "$self: unpacking Debian's rustc-web and rust-web-src into $unpacked" >&2
    unpack_compiler "$unpacked"
    cat >"$RUSTC" <<'WRAPPER'
#!/bin/sh
here=${0%/*}/usr
LD_LIBRARY_PATH=$(echo "$here"/lib/*-linux-gnu)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$here/bin/rustc" "$@"
WRAPPER
    chmod +x "$RUSTC"
    has_sources "$RUSTC" || { echo "$self: $RUSTC does not run, or has no sources of its standard library" >&2; exit 1; }
}

# cargo for other targets. The artefacts stay in the cache, so the standard library is compiled once.
cross() {
    local command=$1
    shift
    RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$target_dir cargo "$command" -Z build-std "$@"
}

check() {
    # Without tls, which compiles C code. The backend that generates no code saves compiling the standard library.
    unset CARGO_ENCODED_RUSTFLAGS
    export RUSTFLAGS='-Dwarnings -Zcodegen-backend=dummy' RESOURCELOCK_DYNAMIC=1
    cross check --quiet --locked --features etcd,postgres,tokio --target "$arm"
    cross check --quiet --locked --target riscv64gc-unknown-linux-gnu --target x86_64-unknown-linux-musl --target "${arm%-gnu}-musl"
    echo "$self: type-checked for aarch64, riscv64 and musl"
}

build() {
    cross build --quiet --locked --features etcd,postgres,tokio --target "$arm" --bins --example count
    says_it_is_static
}

# Shows the program that was built, which has no interpreter.
says_it_is_static() {
    if readelf -lW "$program" | grep -q INTERP; then
        echo "$self: $program is linked dynamically" >&2
        exit 1
    fi
    ls -l "$program"
}

release() {
    export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$target_dir LIBC_PACKAGE=libc6-dev-arm64-cross
    # For maturin's cargo, too.
    export CARGO_UNSTABLE_BUILD_STD=std
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER
    scripts/release.sh artefacts "$1" --target "${arm%-gnu}-musl"
}

# aarch64's Python with the module, as a command.
prepare_arm_python() {
    local root=$cache/cross-python packages
    arm_python=$root/python
    test -x "$root/resourcelock" && "$arm_python" -c "import cjnfuncs.resourcelock" 2>/dev/null && return
    echo "$self: getting aarch64's Python into $root" >&2
    rm -rf "$root"
    mkdir -p "$root/wheels"
    mmdebstrap --quiet --variant=extract --architectures=arm64 --skip=check/qemu \
        --include=python3-minimal,libpython3-stdlib bookworm "$root/system"
    # Debian 12's is Python 3.11; the module itself is not compiled, and comes from the tests' environment.
    packages=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --platform manylinux2014_aarch64 --python-version 3.11 \
        -d "$root/wheels" posix_ipc
    unzip -q "$root"/wheels/*.whl -d "$root/native"
    cat >"$arm_python" <<WRAPPER
#!/bin/sh
export QEMU_LD_PREFIX=$root/system PYTHONHOME=$root/system/usr PYTHONPATH=$root/native:$packages
exec $root/system/usr/bin/python3 "\$@"
WRAPPER
    # The module's program stands beside its Python.
    printf '#!/bin/sh\nexec %s %s "$@"\n' "$arm_python" "${python%/*}/resourcelock" >"$root/resourcelock"
    chmod +x "$arm_python" "$root/resourcelock"
    "$arm_python" -c 'import cjnfuncs.resourcelock'
}

# The end-to-end tests of the lock itself. The others are about what does not depend on the processor, or about limits and
# sandboxes, which qemu itself would run into.
chosen=(order:: crash_waiters:: run_abandoned:: modes:: versions:: deleted:: removal:: cli_get:: other_builds:: peer_)

# Sets `python`, which has the module.
find_python() {
    python=$PWD/.venv/bin/python
    test -x "$python" || { echo "$self: run scripts/test.sh first: it installs the Python module" >&2; exit 1; }
}

prepare_end_to_end() {
    find_python
    build
    register_qemu "$program"
    prepare_arm_python
}

tests() {
    prepare_end_to_end
    echo "$self: unit tests for aarch64"
    # Tests and examples are linked dynamically.
    export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu
    cross test --locked --lib --target "$arm"
    export RESOURCELOCK_TEST_PROGRAM=$program
    # Tests send INT, QUIT and HUP, which a script in the background has inherited as ignored.
    end_to_end() { env -u RUSTC --default-signal=INT,QUIT,HUP cargo test --all-features --test local -- "$@"; }
    echo "$self: aarch64's program beside this machine's library and Python module"
    RESOURCELOCK_TEST_PYTHON=$python end_to_end "${chosen[@]}"
    echo "$self: aarch64's program beside aarch64's Python module"
    RESOURCELOCK_TEST_PYTHON=$arm_python end_to_end peer_
}

soak() {
    prepare_end_to_end
    export RESOURCELOCK_TEST_PROGRAM=$program RESOURCELOCK_TEST_PYTHON=$arm_python
    export RESOURCELOCK_STRESS=$1 RESOURCELOCK_STRESS_PROCESSES=${RESOURCELOCK_STRESS_PROCESSES:-12}
    own_shm env -u RUSTC --default-signal=INT,QUIT,HUP cargo test --all-features --test isolated stress::everything -- --nocapture
}

# Standard libraries for musl are linked with objects that their sources do not contain.
musl() {
    find_python
    has_musl "$musl" || { echo "$self: no standard library for $musl, and no rustup to get it" >&2; exit 1; }
    CARGO_TARGET_DIR=$target_dir cargo build --quiet --locked --features etcd,postgres,tokio --target "$musl" --bin resourcelock --examples
    says_it_is_static
    export RESOURCELOCK_TEST_PROGRAM=$program RESOURCELOCK_TEST_FEATURES=etcd,postgres,tokio,musl RESOURCELOCK_TEST_PYTHON=$python
    echo "$self: the program with musl beside this machine's library and Python module"
    env --default-signal=INT,QUIT,HUP cargo test --all-features --test local
}

part=${1-}
arm=aarch64-unknown-linux-gnu musl=x86_64-unknown-linux-musl target=$arm
case $part in
check) perform=check target_dir=$cache/cross-check ;;
build) perform=build target_dir=$cache/cross ;;
release) perform=release target_dir=$cache/cross argument=${2:?FOLDER is missing} ;;
test) perform=tests target_dir=$cache/cross ;;
musl) perform=musl target_dir=$cache/cross-musl target=$musl ;;
soak) perform=soak target_dir=$cache/cross argument=${2:-5m} ;;
*)
    sed -n '2,/^set/{/^set/d; s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
program=$target_dir/$target/debug/resourcelock
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
find_cargo
install_missing
[ "$part" = musl ] || find_compiler
"$perform" ${argument:+"$argument"}
