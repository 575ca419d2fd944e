#!/usr/bin/env bash
# The unit tests of what only computes, under miri, which interprets them and sees undefined behaviour. Needs rustup's
# nightly toolchain, with miri, which it installs. On two cores some minutes.
#
#   scripts/miri.sh                                  all that can run
#   scripts/miri.sh lock::protocol:: cli::options::  only these
#
# It covers, of the library: values, texts and layouts, the protocol's words and times, whom this program trusts, spinning,
# what engines send and answer; of the program: some of what reads the command line. Not covered is what the system does:
# miri knows no mappings of files, no futexes between processes, no semaphores, locks of files, signals, limits, or
# starting of programs. So `unsafe` code in src/lock/sys is mostly left to scripts/asan.sh, and the protocol as a whole to
# model/ and weak/, which run it too often for an interpreter, or switch stacks.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/needs.sh
find_cargo
if ! cargo +nightly miri --version >/dev/null 2>&1; then
    command -v rustup >/dev/null || { echo "$self: no nightly toolchain with miri, and no rustup to get it" >&2; exit 1; }
    rustup toolchain install nightly --profile minimal --component miri --component rust-src >&2 ||
        { echo "$self: rustup has no nightly toolchain with miri" >&2; exit 1; }
fi

# Of the library, what cannot run: what stands above; sources and documents, which are only read; what would take it minutes;
# and what depends on the system's messages.
skipped=(
    a_crowd_outside_shares_its_checks removed_by_somebody_else_meanwhile used_between_the_look_and_the_removal
    postgres::request_handle:: addresses_are_looked_up_nowhere getent_knows what_is_not_known_is_said
    acquire::watching:: shm::semaphore:: shm::files:: shm::process:: trust::tests::for_every_combination
    sys::lease:: sys::mapping:: sys::mask:: lock::sys::tests:: sys::truncation:: sys::untouched::
    accounts::tests::members root_is_known_and_strangers_are_numbers lock::testing:: committed_messages
)
# Of the program, what is known to run, and not for too long.
program=(cli::arrange:: cli::bash_words:: cli::command:: cli::complete:: cli::options:: cli::patterns:: entry:: exec::sys::command_line::)

# Isolated, a program has no clock. Some tests never free what they have made.
export MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks ${MIRIFLAGS-}" PROPTEST_CASES=${PROPTEST_CASES:-4} CARGO_TARGET_DIR=$cache/miri
cargo +nightly miri test --locked --all-features --lib -- "$@" "${skipped[@]/#/--skip=}"
[ $# -gt 0 ] || set -- "${program[@]}"
cargo +nightly miri test --locked --all-features --bin resourcelock -- "$@"
