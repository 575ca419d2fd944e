#!/usr/bin/env bash
# Other machines than the one that builds.
#
#   scripts/cross.sh check       type-checks library and program for aarch64, riscv64 and musl (part of .ci/run)
#   scripts/cross.sh build       builds the program for aarch64, static-pie, and says where it is
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
    [ "$part" = check ] || cat <<'LIST'
command -v aarch64-linux-gnu-gcc                  | gcc-aarch64-linux-gnu | links programs for aarch64
test -e /usr/aarch64-linux-gnu/lib/libc.a         | libc6-dev-arm64-cross | links programs for aarch64
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
    export RUSTFLAGS='-Dwarnings -Zcodegen-backend=dummy' RESOURCELOCK_DYNAMIC=1
    cross check --quiet --locked --features etcd,postgres,tokio --target "$arm"
    cross check --quiet --locked --target riscv64gc-unknown-linux-gnu --target x86_64-unknown-linux-musl
    echo "$self: type-checked for aarch64, riscv64 and musl"
}

build() {
    cross build --quiet --locked --features etcd,postgres,tokio --target "$arm"
    # Without an interpreter: static.
    if readelf -lW "$program" | grep -q INTERP; then
        echo "$self: $program is linked dynamically" >&2
        exit 1
    fi
    ls -l "$program"
}

part=${1-}
arm=aarch64-unknown-linux-gnu
case $part in
check) target_dir=$cache/cross-check ;;
build) target_dir=$cache/cross ;;
*)
    sed -n '2,/^set/{/^set/d; s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
program=$target_dir/$arm/debug/resourcelock
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
find_cargo
install_missing
find_compiler
"$part"
