#!/usr/bin/env bash
# Builds the program as it is handed to others: target/release/resourcelock, optimized, and without the paths of this
# machine. What distributors should know: docs/packaging.md.
#
#   scripts/release.sh                                  the default build
#   scripts/release.sh --features etcd,postgres,tls     cargo build with these arguments
#   RESOURCELOCK_DYNAMIC=1 scripts/release.sh           linked dynamically
#   scripts/release.sh artefacts FOLDER [ARGUMENTS]     builds, and puts into FOLDER what is handed out: archive, Debian
#                                                       package, source crate, list of parts, checksums
#   scripts/release.sh wheel FOLDER                     the Python package, with the program in it (docs/python.md)
#
# Artefacts have the same bytes wherever and whenever the same commit is built with the same compiler and libc. Needs cargo-deb.
# For aarch64: scripts/cross.sh release FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."

# Where source files are on this machine, and what the program says instead (in the message of a panic). Of several that
# fit, the last one counts.
paths=(
    "$PWD=."
    "${CARGO_TARGET_DIR:-$PWD/target}=target"
    "${CARGO_HOME:-$HOME/.cargo}=/cargo"
    "$("${RUSTC:-rustc}" --print sysroot)=/rust"
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

build() { cargo build --release --locked "$@"; }

# What is inside the program, as SPDX: the crates, and what is linked from this machine.
list_parts() {
    local name version license rest id checksum
    cat <<HEAD
SPDXVersion: SPDX-2.3
DataLicense: CC0-1.0
SPDXID: SPDXRef-DOCUMENT
DocumentName: $label
DocumentNamespace: https://docs.rs/resourcelock/$version_here/spdx/$label
Creator: Tool: resourcelock-release
Created: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
Relationship: SPDXRef-DOCUMENT DESCRIBES SPDXRef-resourcelock-$version_here
HEAD
    part() {
        printf '\nPackageName: %s\nSPDXID: SPDXRef-%s\nPackageVersion: %s\nPackageDownloadLocation: NOASSERTION\n' \
            "$1" "$1-${2//[^0-9A-Za-z.-]/-}" "$2"
        printf 'FilesAnalyzed: false\nPackageLicenseDeclared: %s\n' "$3"
        [ -z "${4-}" ] || printf 'PackageChecksum: SHA256: %s\n' "$4"
        [ -z "${5-}" ] || printf 'ExternalRef: PACKAGE-MANAGER purl pkg:%s\n' "$5"
        [ "$1" = resourcelock ] ||
            printf 'Relationship: SPDXRef-resourcelock-%s CONTAINS SPDXRef-%s\n' "$version_here" "$1-${2//[^0-9A-Za-z.-]/-}"
    }
    while IFS='|' read -r name license; do
        read -r name version rest <<<"$name"
        version=${version#v}
        checksum=$(grep -A3 -x "name = \"$name\"" Cargo.lock | grep -A2 -x "version = \"$version\"" |
            sed -n 's/^checksum = "\(.*\)"/\1/p')
        # Old crates write MIT/Apache-2.0.
        part "$name" "$version" "${license//\// OR }" "$checksum" "cargo/$name@$version"
    done < <(cargo tree --locked --edges normal --prefix none --no-dedupe --target "$target" --format '{p}|{l}' "${features[@]}" |
        LC_ALL=C sort -u)
    part rust-std "$("${RUSTC:-rustc}" --version | cut -d' ' -f2)" "MIT OR Apache-2.0"
    [ -n "${RESOURCELOCK_DYNAMIC-}" ] || part glibc "$libc_version" "LGPL-2.1-or-later"
}

artefacts() {
    local folder=$1 features=() target='' argument staged
    shift
    local arguments=("$@")
    while [ $# -gt 0 ]; do
        case $1 in
        --features) features+=("$1" "$2"); shift ;;
        --target) target=$2; shift ;;
        esac
        shift
    done
    [ -n "$target" ] || { target=$("${RUSTC:-rustc}" -vV | sed -n 's/^host: //p'); arguments+=(--target "$target"); }
    local version_here label built=${CARGO_TARGET_DIR:-$PWD/target}/$target/release
    version_here=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
    label=resourcelock-$version_here-${target%%-*}-linux
    # The time in all artefacts: that of the commit.
    export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
    # Debian's name for the libc that is linked in.
    local libc_version
    libc_version=$(dpkg-query -W -f '${Version}' "${LIBC_PACKAGE:-libc6-dev}" 2>/dev/null || echo unknown)
    mkdir -p "$folder"
    folder=$(cd "$folder" && pwd)
    # The same for every machine. Refused if there are changes that are not committed.
    cargo package --no-verify --locked --quiet
    cp "${CARGO_TARGET_DIR:-target}/package/resourcelock-$version_here.crate" "$folder"
    build "${arguments[@]}"

    staged=$(mktemp -d "${TMPDIR:-/tmp}/resourcelock-release.XXXXXX")
    mkdir -p "$staged/$label/man" "$staged/$label/completions" "$staged/$label/docs/schema"
    cp "$built/resourcelock" README.md CHANGELOG.md SECURITY.md LICENSE-APACHE LICENSE-MIT "$staged/$label"
    cp man/resourcelock.1 "$staged/$label/man"
    cp completions/* "$staged/$label/completions"
    cp docs/*.md "$staged/$label/docs"
    cp docs/schema/*.json "$staged/$label/docs/schema"
    tar -C "$staged" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        --mode=u=rwX,go=rX --format=ustar -c "$label" | xz -9e -T1 >"$folder/$label.tar.xz"
    rm -r "$staged"

    cargo deb --no-build --no-strip --locked --target "$target" --output "$folder/"
    list_parts >"$folder/$label.spdx"
    (cd "$folder" && sha256sum -- *.tar.xz *.deb *.crate *.spdx >SHA256SUMS)
    ls -l "$folder"
}

if [ "${1-}" = artefacts ]; then
    [ $# -ge 2 ] || { echo "release.sh: artefacts FOLDER [ARGUMENTS OF cargo build]" >&2; exit 2; }
    command -v cargo-deb >/dev/null || PATH=$PWD/.tools/bin:$PATH
    shift
    artefacts "$@"
elif [ "${1-}" = wheel ]; then
    [ $# = 2 ] || { echo "release.sh: wheel FOLDER" >&2; exit 2; }
    python3 -m pip wheel --no-deps --wheel-dir "$2" .
else
    build "$@"
fi
