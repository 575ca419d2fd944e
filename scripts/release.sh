#!/usr/bin/env bash
# Builds the program as it is handed to others: optimized, and without the paths of this machine. What distributors should
# know: docs/packaging.md.
#
#   scripts/release.sh                                  with this machine's C library: target/release/resourcelock
#   scripts/release.sh --features etcd,postgres,tls     cargo build with these arguments
#   scripts/release.sh --target ARCH-unknown-linux-musl    with musl, as in the artefacts: target/ARCH-.../release/resourcelock
#   RESOURCELOCK_DYNAMIC=1 scripts/release.sh           linked dynamically
#   RESOURCELOCK_PROFILE=dev scripts/release.sh         target/debug/resourcelock, not optimized: for tests
#   scripts/release.sh artefacts FOLDER [ARGUMENTS]     builds, and puts into FOLDER what is handed out: archive, Debian
#                                                       package, Python package, source crate, lists of parts, checksums.
#                                                       The program is linked with musl; with another C library if the
#                                                       arguments name its --target
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

. scripts/needs.sh
. scripts/flags.sh

build() {
    local words=" ${CARGO_BUILD_TARGET:+--target $CARGO_BUILD_TARGET }$* "
    if [[ $words =~ .*" --target"[\ =]([a-z0-9_]+-unknown-linux-musl)" " ]]; then
        build_with_musl "${BASH_REMATCH[1]}" "$@"
    else
        cargo build --profile "${RESOURCELOCK_PROFILE:-release}" --locked "$@"
    fi
}

# Standard libraries for musl are not built from their sources, which do not contain musl: so with rustup's compiler, whatever
# else is used for other targets.
build_with_musl() (
    target=$1
    shift
    [ -z "${RESOURCELOCK_DYNAMIC-}" ] || {
        echo "release.sh: RESOURCELOCK_DYNAMIC: with musl, the program is always linked statically: --target ${target%-musl}-gnu" >&2
        exit 1
    }
    unset RUSTC CARGO_UNSTABLE_BUILD_STD
    has_musl "$target" || {
        echo "release.sh: no standard library for $target: rustup target add $target (or, with the other C library:" \
            "release.sh artefacts FOLDER --target ${target%-musl}-gnu)" >&2
        exit 1
    }
    leave_out_paths
    # The feature tls has code in C. It needs nothing in which the libraries differ but this, so their compiler will do.
    variable=${target//-/_}
    compiler=CC_$variable linker=CARGO_TARGET_${variable^^}_LINKER
    [ -n "${!compiler-}" ] || export "$compiler=${!linker:-cc}" "CFLAGS_$variable=$CFLAGS -U_FORTIFY_SOURCE"
    cargo build --profile "${RESOURCELOCK_PROFILE:-release}" --locked "$@"
)

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
    local compiler=${RUSTC:-rustc}
    [[ $target != *-musl ]] || compiler=rustc
    part rust-std "$("$compiler" --version | cut -d' ' -f2)" "MIT OR Apache-2.0"
    if [[ $target = *-musl ]]; then
        part musl "$(musl_version)" MIT
        part libunwind "$(rustc -vV | sed -n 's/^LLVM version: //p')" "Apache-2.0 WITH LLVM-exception"
    elif [ -z "${RESOURCELOCK_DYNAMIC-}" ]; then
        # Debian's name for the libc that is linked in.
        part glibc "$(dpkg-query -W -f '${Version}' "${LIBC_PACKAGE:-libc6-dev}" 2>/dev/null || echo unknown)" "LGPL-2.1-or-later"
    fi
}

# The one that comes with the standard library names itself.
musl_version() {
    grep -aoP '(?<=\0)1\.[0-9]+\.[0-9]+(?=\0)' "$(rustc --print sysroot)/lib/rustlib/$target/lib/self-contained/libc.a" |
        head -n 1 || echo unknown
}

artefacts() {
    local folder=$1 features=() target='' argument staged host
    shift
    local arguments=("$@")
    while [ $# -gt 0 ]; do
        case $1 in
        --features) features+=("$1" "$2"); shift ;;
        --features=*) features+=("$1") ;;
        --target) target=$2; shift ;;
        --target=*) target=${1#*=} ;;
        esac
        shift
    done
    host=$("${RUSTC:-rustc}" -vV | sed -n 's/^host: //p')
    if [ -z "$target" ]; then
        target=${CARGO_BUILD_TARGET:-${host%-*}-musl}
        [ -z "${RESOURCELOCK_DYNAMIC-}" ] || target=$host
        arguments+=(--target "$target")
    fi
    local version_here label built=${CARGO_TARGET_DIR:-$PWD/target}/$target/release
    version_here=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
    label=resourcelock-$version_here-${target%%-*}-linux
    # The time in all artefacts: that of the commit.
    export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
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
    # Python brings glibc. It is not in the extension, but in the program that comes with it.
    [[ $host = *-musl ]] || target=${target%-*}-gnu
    CARGO_BUILD_TARGET=$target wheel "$folder"
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
