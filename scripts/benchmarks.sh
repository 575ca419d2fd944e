#!/usr/bin/env bash
# Measures what the lock costs beside its peers, and writes docs/benchmarks.md and its pictures: some minutes, on a machine
# that does nothing else. First it installs the peers (Debian) and builds everything; a peer that cannot be had is
# left out, and the page says so.
#
#   scripts/benchmarks.sh                     everything
#   scripts/benchmarks.sh --quick             with few repetitions: a minute
#   scripts/benchmarks.sh --suite             before that, scripts/test.sh from a fresh clone
#   scripts/benchmarks.sh startup pair ...    only these parts (benches/report.rs lists them): printed, nothing is written
#   scripts/benchmarks.sh --write python      and the section of the page that this part alone has
set -euo pipefail
cd "$(dirname "$0")/.."

needs() {
    cat <<'LIST'
command -v cc                                     | gcc          | links the Rust programs
command -v python3                                | python3      | runs the Python modules
python3 -m ensurepip --version                    | python3-venv | installs them apart from the system's packages
command -v flock                                  | util-linux   | a peer
command -v lckdo                                  | moreutils    | a peer
command -v sem                                    | parallel     | a peer
command -v strace                                 | strace       | lists system calls
command -v etcd                                   | etcd-server  | an engine
command -v etcdctl                                | etcd-client  | a peer
command -v psql && ls /usr/lib/postgresql/*/bin/postgres | postgresql | an engine
LIST
}

. scripts/needs.sh

say() { echo "$self: $*" >&2; }

# Packages that are unpacked, not installed: they would start services.
unpack_peers() {
    local peers=$cache/peers package
    RESOURCELOCK_BENCH_PACKAGES=
    for package in runit daemontools; do
        if ! ls "$peers/$package"_*.deb >/dev/null 2>&1; then
            mkdir -p "$peers"
            (cd "$peers" && { apt-get download -q "$package" || { as_root apt-get update -q && apt-get download -q "$package"; }; } &&
                dpkg -x "$package"_*.deb .) >&2 || { say "cannot unpack Debian's package $package"; continue; }
        fi
        RESOURCELOCK_BENCH_PACKAGES+="${RESOURCELOCK_BENCH_PACKAGES:+, }$(dpkg-deb -W --showformat='${Package} ${Version}' "$peers/$package"_*.deb)"
    done
    export RESOURCELOCK_BENCH_PACKAGES
    PATH=$PATH:$peers/usr/bin
}

prepare_python() {
    local list=benches/requirements.txt venv
    venv=$cache/peers-python-$(sha256sum "$list" | cut -c1-16)
    if ! "$venv/bin/python" -c 'import cjnfuncs.resourcelock, fasteners, filelock, maturin, portalocker' 2>/dev/null; then
        say "installing $(grep -v '^#' "$list" | tr '\n' ' ')into $venv"
        rm -rf "$venv"
        python3 -m venv "$venv" && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$list" >&2
    fi
    export RESOURCELOCK_BENCH_PYTHON=$venv/bin/python
}

# How long all tests take from a fresh clone, in seconds.
time_suite() {
    local clone=$work/clone start
    git clone --quiet . "$clone"
    start=$SECONDS
    (cd "$clone" && unset CARGO_TARGET_DIR && scripts/test.sh) >"$work/suite" 2>&1 || { say "scripts/test.sh failed:"; tail -n 20 "$work/suite" >&2; return; }
    export RESOURCELOCK_BENCH_SUITE=$((SECONDS - start))
}

suite='' options=() parts=()
for word; do
    case $word in
        --suite) suite=1 ;;
        --quick | --write) options+=("$word") ;;
        -*) say "unknown option $word"; exit 1 ;;
        *) parts+=("$word") ;;
    esac
done
[ ${#parts[@]} -gt 0 ] || options+=(--write)
wanted() { [ ${#parts[@]} = 0 ] || [[ " ${parts[*]} " = *" $1 "* ]]; }

find_cargo
work=$(mktemp -d "${TMPDIR:-/tmp}/resourcelock-benchmarks.XXXXXX")
trap 'rm -rf "$work"' EXIT
(install_missing) || say 'measuring without what is missing'
unpack_peers
prepare_python || say 'measuring without the Python modules'
[ -z "$suite" ] || time_suite

target=${CARGO_TARGET_DIR:-target}
say 'building'
# The program as `cargo install` makes it, and as it is handed out: with the default features, and for engines.
cargo build --quiet --release
cp "$target/release/resourcelock" "$work/from-source"
export RESOURCELOCK_BENCH_PROGRAM=$work/from-source
musl=$(own_musl)
if [ -n "$musl" ] && has_musl "$musl"; then
    if wanted engines; then
        scripts/release.sh --quiet --target "$musl" --features etcd,postgres
        cp "$target/$musl/release/resourcelock" "$work/with-engines"
        export RESOURCELOCK_BENCH_ENGINES=$work/with-engines
    fi
    scripts/release.sh --quiet --target "$musl"
    cp "$target/$musl/release/resourcelock" "$work/resourcelock"
    export RESOURCELOCK_BENCH_PROGRAM=$work/resourcelock RESOURCELOCK_BENCH_FROM_SOURCE=$work/from-source
else
    say "measuring the program as cargo install makes it, not with musl: rustup target add ${musl:-...}"
fi
if cargo build --quiet --release --manifest-path benches/crates/Cargo.toml --target-dir "$target/bench-crates"; then
    export RESOURCELOCK_BENCH_CRATES=$target/bench-crates/release/resourcelock-bench-crates
fi
# As users install it.
if wanted python && [ -n "${RESOURCELOCK_BENCH_PYTHON:-}" ]; then
    PATH=${RESOURCELOCK_BENCH_PYTHON%/*}:$PATH CARGO_TARGET_DIR=$target "$RESOURCELOCK_BENCH_PYTHON" -m pip install --quiet \
        --disable-pip-version-check --no-index --no-deps --no-build-isolation --force-reinstall . ||
        say 'measuring without the Python package'
fi
cargo bench --quiet --features etcd,postgres --bench report -- "${options[@]}" "${parts[@]}"
