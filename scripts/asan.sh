#!/usr/bin/env bash
# The end-to-end tests of local locks with a program, and examples, that AddressSanitizer watches. On two cores a quarter of an hour.
#
#   scripts/asan.sh                   all that can run
#   scripts/asan.sh fault_ stop::     only these
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/needs.sh
find_cargo
python=$PWD/.venv/bin/python
test -x "$python" || { echo "$self: run scripts/test.sh first: it installs the Python module" >&2; exit 1; }

# What cannot run: whatever counts memory or descriptors, or runs without /proc or a system call; what AddressSanitizer's
# warnings and signal handlers change; programs of another user's; libfaketime; a system without libraries.
skipped=(cli_see::doctor_notes_a_32_bit_system trust_t11:: no_proc:: messages:: wall_clock:: trust_t7::work_and_memory trust_t1::a_program_with_the_privileges
    run_signals::the_command_inherits run_status::a_command_that_is_not_found)

target=$(rustc -vV | sed -n 's/^host: //p')
folder=$cache/asan
mkdir -p "$folder"
# What the program opens for as long as it runs is not given back: no leak. Some tests run it with an empty environment.
echo 'const char *__asan_default_options(void) { return "detect_leaks=0"; }' | cc -x c -c -o "$folder/options.o" -
watched() {
    env -u CARGO_ENCODED_RUSTFLAGS RUSTC_BOOTSTRAP=1 RESOURCELOCK_DYNAMIC=1 RUSTFLAGS='-Zsanitizer=address -Cforce-frame-pointers=yes' CARGO_TARGET_DIR=$folder \
        cargo "$1" --locked --all-features --target "$target" "${@:2}"
}
watched build --examples
watched rustc --bin resourcelock -- -Clink-arg="$folder/options.o"

export RESOURCELOCK_TEST_PROGRAM=$folder/$target/debug/resourcelock RESOURCELOCK_TEST_PYTHON=$python ASAN_OPTIONS=detect_leaks=0
env --default-signal=INT,QUIT,HUP cargo test --all-features --test local -- "$@" "${skipped[@]/#/--skip=}"
