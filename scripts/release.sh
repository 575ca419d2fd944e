#!/usr/bin/env bash
# Builds the program as it is handed to others: target/release/resourcelock, optimized, and without the paths of this
# machine. What distributors should know: docs/packaging.md.
#
#   scripts/release.sh                                  the default build
#   scripts/release.sh --features etcd,postgres,tls     cargo build with these arguments
#   RESOURCELOCK_DYNAMIC=1 scripts/release.sh           linked dynamically
#   RESOURCELOCK_PROFILE=dev scripts/release.sh         target/debug/resourcelock, not optimized: for tests
#   scripts/release.sh artefacts FOLDER [ARGUMENTS]     builds, and puts into FOLDER what is handed out: archive, Debian
#                                                       package, Python package, source crate, lists of parts, checksums
#   scripts/release.sh wheel FOLDER                     the Python package, with the program in it (docs/python.md)
#   scripts/release.sh twice FOLDER [ARGUMENTS]         artefacts of the last commit, made in two folders, each from nothing;
#                                                       fails if a byte differs
#
# Artefacts have the same bytes wherever and whenever the same commit is built with the same compilers, libc, cargo-deb and
# maturin. The last two are those of the tests, if scripts/test.sh has installed them.
# For aarch64: scripts/cross.sh release FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."

# What was given, for those who begin anew.
given=("CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS-}" "RUSTFLAGS=${RUSTFLAGS-}" "CFLAGS=${CFLAGS-}")

. scripts/flags.sh

build() { cargo build --profile "${RESOURCELOCK_PROFILE:-release}" --locked "$@"; }

# What is inside the program, or the Python package, as SPDX: the crates, and what is linked from this machine.
list_parts() {
    local label=$1 package=$2 name version license rest checksum
    shift 2
    cat <<HEAD
SPDXVersion: SPDX-2.3
DataLicense: CC0-1.0
SPDXID: SPDXRef-DOCUMENT
DocumentName: $label
DocumentNamespace: https://docs.rs/resourcelock/$version_here/spdx/$label
Creator: Tool: resourcelock-release
Created: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
Relationship: SPDXRef-DOCUMENT DESCRIBES SPDXRef-$package-$version_here
HEAD
    part() {
        printf '\nPackageName: %s\nSPDXID: SPDXRef-%s\nPackageVersion: %s\nPackageDownloadLocation: NOASSERTION\n' \
            "$1" "$1-${2//[^0-9A-Za-z.-]/-}" "$2"
        printf 'FilesAnalyzed: false\nPackageLicenseDeclared: %s\n' "$3"
        [ -z "${4-}" ] || printf 'PackageChecksum: SHA256: %s\n' "$4"
        [ -z "${5-}" ] || printf 'ExternalRef: PACKAGE-MANAGER purl pkg:%s\n' "$5"
        [ "$1" = "$package" ] ||
            printf 'Relationship: SPDXRef-%s-%s CONTAINS SPDXRef-%s\n' "$package" "$version_here" "$1-${2//[^0-9A-Za-z.-]/-}"
    }
    while IFS='|' read -r name license; do
        read -r name version rest <<<"$name"
        version=${version#v}
        checksum=$(grep -A3 -x "name = \"$name\"" Cargo.lock | grep -A2 -x "version = \"$version\"" |
            sed -n 's/^checksum = "\(.*\)"/\1/p')
        # Old crates write MIT/Apache-2.0.
        part "$name" "$version" "${license//\// OR }" "$checksum" "cargo/$name@$version"
    done < <(cargo tree --locked --package "$package" --edges normal --prefix none --no-dedupe --target "$target" --format '{p}|{l}' "$@" |
        LC_ALL=C sort -u)
    part rust-std "$("${RUSTC:-rustc}" --version | cut -d' ' -f2)" "MIT OR Apache-2.0"
    [ -n "${RESOURCELOCK_DYNAMIC-}" ] || part glibc "$libc_version" "LGPL-2.1-or-later"
}

artefacts() {
    local folder=$1 features=() target='' argument staged host
    shift
    local arguments=("$@")
    while [ $# -gt 0 ]; do
        case $1 in
        --features) features+=("$1" "$2"); shift ;;
        --target) target=$2; shift ;;
        esac
        shift
    done
    host=$("${RUSTC:-rustc}" -vV | sed -n 's/^host: //p')
    [ -n "$target" ] || { target=$host; arguments+=(--target "$target"); }
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
    list_parts "$label" resourcelock "${features[@]}" >"$folder/$label.spdx"
    CARGO_BUILD_TARGET=$target wheel "$folder"
    # glibc is not in its extension, but in its program.
    label=${label/resourcelock/resourcelock-python}
    list_parts "$label" resourcelock-python >"$folder/$label.spdx"
    (cd "$folder" && sha256sum -- resourcelock* >SHA256SUMS)
    ls -l "$folder"
}

# The Python package, built by the tests' maturin, or by the one that pip gets for it.
wheel() {
    local options=()
    ! command -v maturin >/dev/null || options=(--no-build-isolation)
    python3 -m pip wheel --quiet --disable-pip-version-check --no-deps "${options[@]}" --wheel-dir "$1" .
}

twice() {
    local folder=$1 clone commit
    mkdir -p "$folder"
    folder=$(cd "$folder" && pwd)
    shift
    # Between the two, somebody may commit.
    commit=$(git rev-parse HEAD)
    for clone in once "once more"; do
        git clone --quiet . "$folder/$clone"
        git -C "$folder/$clone" checkout --quiet --detach "$commit"
        # What the tests have installed, if they have.
        cp -P .venv .tools "$folder/$clone" 2>/dev/null || true
        (cd "$folder/$clone" && env "${given[@]}" CARGO_TARGET_DIR="$folder/$clone/target" \
            scripts/release.sh artefacts "$folder/made $clone" "$@")
        rm -rf "${folder:?}/$clone"
    done
    cat "$folder/made once/SHA256SUMS"
    diff "$folder/made once/SHA256SUMS" "$folder/made once more/SHA256SUMS"
    echo "release.sh: the same bytes from both folders"
}

for tools in "$PWD/.venv/bin" "$PWD/.tools/bin"; do
    [ ! -d "$tools" ] || PATH=$tools:$PATH
done
case ${1-} in
artefacts | twice)
    [ $# -ge 2 ] || { echo "release.sh: $1 FOLDER [ARGUMENTS OF cargo build]" >&2; exit 2; }
    "$@"
    ;;
wheel)
    [ $# = 2 ] || { echo "release.sh: wheel FOLDER" >&2; exit 2; }
    export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
    wheel "$2"
    ;;
*) build "$@" ;;
esac
