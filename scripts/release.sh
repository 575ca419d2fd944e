#!/usr/bin/env bash
# Builds the program as it is handed to others: target/release/resourcelock, optimized, and without the paths of this
# machine. What distributors should know: docs/packaging.md.
#
#   scripts/release.sh                                  the default build
#   scripts/release.sh --features etcd,postgres,tls     cargo build with these arguments
#   RESOURCELOCK_DYNAMIC=1 scripts/release.sh           linked dynamically
set -euo pipefail
cd "$(dirname "$0")/.."

# Where source files are on this machine, and what the program says instead (in the message of a panic). Of several that
# fit, the last one counts.
paths=(
    "$PWD=."
    "${CARGO_TARGET_DIR:-$PWD/target}=target"
    "${CARGO_HOME:-$HOME/.cargo}=/cargo"
    "$(rustc --print sysroot)=/rust"
)

# A path may contain blanks, so the flags are passed in Cargo's own encoding. They replace those of RUSTFLAGS.
separator=$'\x1f'
flags=${CARGO_ENCODED_RUSTFLAGS-}
for flag in ${RUSTFLAGS-}; do flags+=${flags:+$separator}$flag; done
for path in "${paths[@]}"; do flags+=${flags:+$separator}--remap-path-prefix=$path; done
export CARGO_ENCODED_RUSTFLAGS=$flags
unset RUSTFLAGS

# C code, which only the feature tls brings along. (Compilers for C split these words at blanks.)
CFLAGS="${CFLAGS-} -fstack-protector-strong"
for path in "${paths[@]}"; do
    [[ $path == *[[:blank:]]* ]] || CFLAGS+=" -ffile-prefix-map=$path"
done
export CFLAGS

exec cargo build --release --locked "$@"
