#!/bin/sh
# What Cargo runs for the tests in the documentation, in rustdoc's place: writes the documentation itself, to $DOCUMENTATION.
# So what has been compiled for the tests will do; for `cargo doc`, all that the library depends on would be read once more.
set -eu
words=$#
while [ "$words" -gt 0 ]; do
    case $1 in
        --test) ;;
        --test-run-directory) shift && words=$((words - 1)) ;;
        *) set -- "$@" "$1" ;;
    esac
    shift
    words=$((words - 1))
done
exec rustdoc "$@" --out-dir "$DOCUMENTATION"
