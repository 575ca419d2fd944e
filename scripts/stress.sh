#!/usr/bin/env bash
# Everything at once, for a time (see tests/isolated/stress.rs). What it found is printed at the end; status 0: nothing.
#
#   scripts/stress.sh 30m          for half an hour
#   scripts/stress.sh 5m 123456    with the choices of an earlier run, which printed its seed
set -euo pipefail
export RESOURCELOCK_STRESS=${1:?how long: 90s, 30m, 2h}
if [ $# -gt 1 ]; then export RESOURCELOCK_STRESS_SEED=$2; fi
exec "$(dirname "$0")/test.sh" --all-features --test isolated stress::everything -- --nocapture
