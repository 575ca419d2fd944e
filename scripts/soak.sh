#!/usr/bin/env bash
# Everything at once, for a time: fifty processes that use one lock of this machine in every way, and are killed and stopped
# (tests/isolated/stress.rs), beside commands under a lock of etcd and one of PostgreSQL whose servers are killed, stopped
# and started again (tests/engines/engine_soak.rs). All of it in a /dev/shm of its own. Figures are printed at the end;
# status 0: nobody was at work beside somebody else without an explanation, nothing was stuck, and no token came in the
# wrong order. As root.
#
#   scripts/soak.sh                   for half an hour
#   scripts/soak.sh 5m 123456         with the choices of an earlier run, which printed its seed
#
# RESOURCELOCK_STRESS_PROCESSES: how many processes use the lock of this machine, about (50).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/needs.sh
export RESOURCELOCK_STRESS=${1:-30m} RESOURCELOCK_STRESS_SEED=${2:-$RANDOM}
export RESOURCELOCK_STRESS_PROCESSES=${RESOURCELOCK_STRESS_PROCESSES:-50}

# What is needed, and the tests themselves.
scripts/test.sh --all-features --test isolated --test engines --no-run
python=$PWD/.venv/bin/python
target=$(cargo metadata --format-version 1 --no-deps | "$python" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
export RESOURCELOCK_STRESS_PACKAGE=$target/soak-package
echo "$self: the Python package, into $RESOURCELOCK_STRESS_PACKAGE"
PATH=$PWD/.venv/bin:$PATH CARGO_TARGET_DIR=$target RESOURCELOCK_WHEEL_PROFILE=dev "$python" -m pip install --quiet --no-index \
    --no-deps --no-build-isolation --upgrade --target "$RESOURCELOCK_STRESS_PACKAGE" .

find_cargo
export RESOURCELOCK_TEST_PYTHON=$python
# Tests send INT, QUIT and HUP, which a script in the background has inherited as ignored.
soak() { own_shm env --default-signal=INT,QUIT,HUP cargo test --all-features --test "$1" "$2" -- --nocapture; }
export -f soak own_shm
# In a session of its own: where processors are shared among sessions (autogroup), fifty processes would leave the engines'
# servers so little that they elect no leader.
setsid --wait bash -c 'soak engines engine_soak' &
engines=$!
status=0
soak isolated stress::everything || status=$?
wait "$engines" || status=$?
[ "$status" = 0 ] && echo "$self: nothing unexplained" || echo "$self: FAILED, see above"
exit "$status"
